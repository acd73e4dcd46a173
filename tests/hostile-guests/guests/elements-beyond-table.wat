;; An element segment of which the last lies outside of its table.
;; ends: init in load
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 1) $abi)
  (func $abi (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
