;; Wants the host's memory for its own.
;; ends: init in load
(module
  (import "sanderling_v1" "emit" (memory (;0;) 1))
  (export "memory" (memory 0))
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
