;; Asks for more memory again and again, whatever the answer.
;; ends: deadline in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (drop (memory.grow (i32.const 1))) (br $again))
    (unreachable)))
