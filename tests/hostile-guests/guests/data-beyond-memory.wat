;; A data segment of which the last byte lies outside of its memory.
;; ends: init in load
(module
  (memory (export "memory") 1)
  (data (i32.const 65535) "ab")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
