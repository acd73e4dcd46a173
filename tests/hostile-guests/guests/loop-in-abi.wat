;; An endless loop where it should say its version.
;; ends: fuel in sanderling_abi
;; limits: fuel_per_frame 5000000
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (loop $again (br $again)) (unreachable))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
