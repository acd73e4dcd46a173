;; Wants more memory from its first moment on than it may have.
;; ends: memory in load
(module
  (memory (export "memory") 257)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
