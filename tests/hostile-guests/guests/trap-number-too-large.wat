;; Makes an integer of a number that is too large for one.
;; ends: trap integer_overflow in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.trunc_f32_u (f32.const 0x1p32))))
