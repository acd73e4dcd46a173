;; Writes as many lines as fit into each call to its standard output, without end.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 5000, fuel_per_frame 10000000
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\01\00\00\00\00\01\00")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (local $at i32)
    (local.set $at (i32.const 256))
    (loop $again
      (i32.store16 (local.get $at) (i32.const 0x0a61))
      (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 2))) (i32.const 65792))))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (br $again))
    (unreachable)))
