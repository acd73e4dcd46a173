;; Makes an integer of what is no number.
;; ends: trap bad_conversion_to_integer in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.trunc_f64_s (f64.const nan:0xfffffffffffff))))
