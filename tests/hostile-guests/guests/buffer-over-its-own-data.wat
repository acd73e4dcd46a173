;; Wants its frame over the constants that it uses, and itself in the way.
;; ends: survives
;; grants: emit:out
(module
  (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "sanderling_v1" "frame_read" (func $read (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "out")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_buffer") (param i32) (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 65536)))
    (drop (call $emit (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 64)))
    (i32.const 0)))
