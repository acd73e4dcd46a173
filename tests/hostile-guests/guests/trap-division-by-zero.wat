;; Divides by zero.
;; ends: trap integer_division_by_zero in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.rem_u (i32.const 1) (memory.grow (i32.const 0)))
    (drop) (i32.div_u (i32.const 1) (i32.const 0))))
