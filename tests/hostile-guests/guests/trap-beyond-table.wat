;; Calls what lies beyond its table.
;; ends: trap table_out_of_bounds in sanderling_frame
(module
  (memory (export "memory") 1)
  (table 2 funcref)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (call_indirect (result i32) (i32.const -1))))
