;; Traps where it should say its version.
;; ends: trap unreachable in sanderling_abi
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (unreachable))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
