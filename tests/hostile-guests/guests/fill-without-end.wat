;; Fills its whole memory again and again, with one instruction each.
;; ends: deadline in sanderling_frame
(module
  (memory (export "memory") 256)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (memory.fill (i32.const 0) (i32.const 7) (i32.const 16777216)) (br $again))
    (unreachable)))
