;; Writes eight bytes of which the last is outside of its memory.
;; ends: trap memory_out_of_bounds in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (i64.store (i32.const 65529) (i64.const -1))
    (i32.const 0)))
