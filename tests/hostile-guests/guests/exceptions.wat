;; Throws an exception out of itself.
;; ends: init in load
(module
  (tag $thrown)
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (throw $thrown)))
