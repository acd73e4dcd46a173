;; An endless loop in `_initialize`.
;; ends: fuel in _initialize
;; limits: fuel_per_frame 5000000
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "_initialize") (loop $again (br $again)))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
