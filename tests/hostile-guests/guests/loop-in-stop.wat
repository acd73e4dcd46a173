;; An endless loop when it is asked to stop.
;; ends: deadline in sanderling_stop
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0))
  (func (export "sanderling_stop") (loop $again (br $again))))
