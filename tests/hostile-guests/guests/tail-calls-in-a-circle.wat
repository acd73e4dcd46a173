;; Two functions hand over to each other through a table, without end.
;; ends: deadline in sanderling_frame
(module
  (memory (export "memory") 1)
  (table funcref (elem $ping $pong))
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func $ping (param i32) (result i32) (return_call_indirect (param i32) (result i32) (local.get 0) (i32.const 1)))
  (func $pong (param i32) (result i32) (return_call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)))
  (func (export "sanderling_frame") (result i32) (call $ping (i32.const 7))))
