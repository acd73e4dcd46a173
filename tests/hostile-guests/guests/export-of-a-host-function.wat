;; Exports a host function as its own frame function.
;; ends: survives
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "sanderling_v1" "frame_info" (func $info (param i32) (result i32)))
  (memory (export "memory") 1)
  (export "sanderling_buffer" (func $info))
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (export "sanderling_frame" (func $yield)))
