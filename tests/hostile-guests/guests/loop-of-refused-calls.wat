;; Opens files that are not there, without end.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 5000, fuel_per_frame 10000000
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again
      (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 0) (i64.const -1)
        (i64.const -1) (i32.const 0) (i32.const 16)))
      (br $again))
    (unreachable)))
