;; Two functions call each other without end.
;; ends: memory in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func $even (param i64) (result i64) (i64.add (call $odd (local.get 0)) (i64.const 1)))
  (func $odd (param i64) (result i64) (i64.sub (call $even (local.get 0)) (i64.const 1)))
  (func (export "sanderling_frame") (result i32) (i32.wrap_i64 (call $even (i64.const 1)))))
