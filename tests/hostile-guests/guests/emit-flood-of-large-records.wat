;; Emits the longest records that there are, ten thousand times a frame.
;; ends: survives
;; grants: emit:out
;; limits: deadline_ms 60000
(module
  (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "out")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (local $count i32)
    (loop $again
      (drop (call $emit (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 65536)))
      (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000))))
    (i32.const 0)))
