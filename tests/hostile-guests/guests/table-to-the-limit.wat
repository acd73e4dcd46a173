;; Grows a table until it is refused, and goes on.
;; ends: survives
;; limits: deadline_ms 60000
(module
  (memory (export "memory") 1)
  (table $table 0 externref)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null extern) (i32.const 7)) (i32.const -1))))
    ;; A sixteenth of 16 MiB is the most that there is room for.
    (i32.gt_u (table.size $table) (i32.const 1048576))))
