;; Grows a table by a million elements just when its slice of fuel ends, where the interpreter loses its place.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 60000
(module
  (memory (export "memory") 1)
  (table $table 0 funcref)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (local $left i32)
    ;; Most of the first slice.
    (local.set $left (i32.const 7000))
    (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (drop (table.grow $table (ref.null func) (i32.const 1000000)))
    (i32.const 0)))
