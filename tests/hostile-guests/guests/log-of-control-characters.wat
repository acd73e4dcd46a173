;; Logs what a terminal would obey.
;; ends: survives
(module
  (import "sanderling_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\1b]0;owned\07\1b[2J\00\0d\0a\ff\fe\c3")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (drop (call $log (i32.const -1) (i32.const 0) (i32.const 64)))
    (i32.const 0)))
