;; Sixteen memories that each grow to the limit.
;; ends: survives
;; limits: deadline_ms 60000
(module
  (memory (export "memory") 1) (memory $second 1)
  (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1)
  (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory $last 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (drop (memory.grow (i32.const 100)))
    (drop (memory.grow $second (i32.const 100)))
    (drop (memory.grow $last (i32.const 256)))
    (loop $again (br_if $again (i32.ne (memory.grow $last (i32.const 1)) (i32.const -1))))
    (memory.fill $second (i32.const 0) (i32.const 1) (i32.mul (memory.size $second) (i32.const 65536)))
    (memory.fill $last (i32.const 0) (i32.const 1) (i32.mul (memory.size $last) (i32.const 65536)))
    ;; Together they have 256 pages.
    (i32.sub
      (i32.add (i32.add (memory.size) (memory.size $second)) (memory.size $last))
      (i32.const 243))))
