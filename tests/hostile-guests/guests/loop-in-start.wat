;; An endless loop in its start function, with less fuel than time.
;; ends: fuel in sanderling_start
;; limits: fuel_per_frame 5000000
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_start") (result i32) (loop $again (br $again)) (unreachable))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
