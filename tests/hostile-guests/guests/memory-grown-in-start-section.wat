;; Asks for all memory there could be, again and again, before anything else runs.
;; ends: fuel in start section
;; limits: fuel_per_frame 5000000
(module
  (memory (export "memory") 1)
  (func $early (loop $again (drop (memory.grow (i32.const 65535))) (br $again)))
  (start $early)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
