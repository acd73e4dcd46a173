;; Asks for all of the address space at once, takes the refusal for an address, and writes there.
;; ends: trap memory_out_of_bounds in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (i32.store (memory.grow (i32.const 65535)) (i32.const 1))
    (i32.const 0)))
