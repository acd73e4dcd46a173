;; Emits on a channel that it was not granted, without end.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 5000, fuel_per_frame 10000000
(module
  (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "secret")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (drop (call $emit (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6))) (br $again))
    (unreachable)))
