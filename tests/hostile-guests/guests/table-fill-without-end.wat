;; Fills and moves a whole table again and again.
;; ends: deadline in sanderling_frame
(module
  (memory (export "memory") 1)
  (table $table 900000 funcref)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again
      (table.fill $table (i32.const 0) (ref.null func) (i32.const 900000))
      (table.copy $table $table (i32.const 1) (i32.const 0) (i32.const 899999))
      (br $again))
    (unreachable)))
