;; Copies from the edge of its memory to beyond it.
;; ends: trap memory_out_of_bounds in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (memory.copy (i32.const 65530) (i32.const 0) (i32.const 7))
    (i32.const 0)))
