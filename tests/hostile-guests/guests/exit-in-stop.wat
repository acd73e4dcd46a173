;; Ends its process, as it thinks, when it is asked to stop.
;; ends: guest in sanderling_stop
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0))
  (func (export "sanderling_stop") (call $exit (i32.const -1))))
