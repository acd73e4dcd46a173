;; A memory with 64-bit addresses.
;; ends: init in load
(module
  (memory (export "memory") i64 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
