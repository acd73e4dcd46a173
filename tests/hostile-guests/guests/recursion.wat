;; Calls itself without end.
;; ends: memory in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func $deeper (export "sanderling_frame") (result i32) (i32.add (call $deeper) (i32.const 1))))
