;; Stores a part of a vector, after which the interpreter would go on wherever this guest's numbers send it.
;; ends: init in load
(module
  (memory (export "memory") 2)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (local i32 v128)
    (v128.store8_lane offset=100000 1 (local.get 0) (local.get 1))
    (i32.const 0)))
