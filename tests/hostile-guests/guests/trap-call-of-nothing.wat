;; Calls an empty place of its table.
;; ends: trap indirect_call_to_null in sanderling_frame
(module
  (memory (export "memory") 1)
  (table 2 funcref)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (call_indirect (result i32) (i32.const 1))))
