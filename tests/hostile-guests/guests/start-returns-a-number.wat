;; Says that it cannot start.
;; ends: init in sanderling_start
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_start") (result i32) (i32.const -1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
