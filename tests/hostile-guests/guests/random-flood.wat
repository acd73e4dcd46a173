;; Asks for as much randomness as its memory holds, without end.
;; ends: deadline in sanderling_frame
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 256)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (drop (call $random (i32.const 0) (i32.const 16777216))) (br $again))
    (unreachable)))
