;; An endless loop where it should say where it wants its frame.
;; ends: deadline in sanderling_buffer
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_buffer") (param i32) (result i32) (loop $again (br $again)) (unreachable))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
