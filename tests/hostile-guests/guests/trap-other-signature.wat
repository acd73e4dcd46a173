;; Calls a host function as something that it is not.
;; ends: trap bad_signature in sanderling_frame
(module
  (import "sanderling_v1" "now" (func $now (param i32) (result i32)))
  (memory (export "memory") 1)
  (table funcref (elem $now))
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (i32.wrap_i64 (call_indirect (param i64 i64) (result i64) (i64.const -1) (i64.const -1) (i32.const 0)))))
