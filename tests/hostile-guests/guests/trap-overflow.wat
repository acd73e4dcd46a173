;; Divides the smallest number by minus one, which kills a native program.
;; ends: trap integer_overflow in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (i32.wrap_i64 (i64.div_s (i64.const 0x8000000000000000) (i64.const -1)))))
