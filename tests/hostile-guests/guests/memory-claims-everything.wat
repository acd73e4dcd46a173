;; Says that it may grow to four gigabytes, and does not.
;; ends: survives
(module
  (memory (export "memory") 1 65536)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))
