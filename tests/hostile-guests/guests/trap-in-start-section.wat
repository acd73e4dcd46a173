;; Traps before anything else runs.
;; ends: trap unreachable in start section
(module
  (memory (export "memory") 1)
  (func $early (unreachable))
  (start $early)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
