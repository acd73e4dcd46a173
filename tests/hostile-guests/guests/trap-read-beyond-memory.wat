;; Reads at the last address of all.
;; ends: trap memory_out_of_bounds in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.load offset=0xffffffff (i32.const -1))))
