;; Imports a host function with a parameter more than it has.
;; ends: init in load
(module
  (import "sanderling_v1" "emit" (func (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
