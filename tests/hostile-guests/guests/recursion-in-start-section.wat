;; Recursion without end before anything else runs.
;; ends: memory in start section
(module
  (memory (export "memory") 1)
  (func $deeper (call $deeper) (call $deeper))
  (start $deeper)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
