;; Ends its process, as it thinks, in the middle of a frame.
;; ends: guest in sanderling_frame
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (call $exit (i32.const 0)) (unreachable)))
