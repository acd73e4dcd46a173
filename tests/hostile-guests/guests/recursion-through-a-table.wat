;; Calls itself through a table without end.
;; ends: memory in sanderling_frame
(module
  (memory (export "memory") 1)
  (table funcref (elem $deeper))
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func $deeper (export "sanderling_frame") (result i32)
    (i32.add (call_indirect (result i32) (i32.const 0)) (i32.const 1))))
