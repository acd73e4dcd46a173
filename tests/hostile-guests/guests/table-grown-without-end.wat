;; Asks for a larger table again and again, whatever the answer.
;; ends: deadline in sanderling_frame
(module
  (memory (export "memory") 1)
  (table $table 0 funcref)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (drop (table.grow $table (ref.null func) (i32.const 1))) (br $again))
    (unreachable)))
