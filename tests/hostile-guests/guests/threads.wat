;; Shares its memory with threads that there are not.
;; ends: init in load
(module
  (memory (export "memory") 1 1 shared)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))
