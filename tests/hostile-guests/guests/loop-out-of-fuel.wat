;; An endless loop, with less fuel than time.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 60000, fuel_per_frame 20000000
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (br $again))
    (unreachable)))
