;; Calls the host a million times for one frame, and comes to an end.
;; ends: survives
;; limits: deadline_ms 60000
(module
  (import "sanderling_v1" "now" (func $now (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (local $count i32)
    (loop $again
      (drop (call $now (i32.const 0)))
      (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000000))))
    (i32.const 0)))
