;; Imports a function that no host has.
;; ends: init in load
(module
  (import "sanderling_v1" "launch_missiles" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
