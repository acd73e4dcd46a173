;; Calls a host function that does nothing, without end.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 5000, fuel_per_frame 10000000
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (drop (call $yield)) (br $again))
    (unreachable)))
