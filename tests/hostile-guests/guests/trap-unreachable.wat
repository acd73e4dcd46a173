;; Executes what must not be reached.
;; ends: trap unreachable in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (unreachable)))
