;; Traps in `_initialize`.
;; ends: trap unreachable in _initialize
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "_initialize") (unreachable))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
