;; Grows its memory until it is refused, touches all of it, and goes on.
;; ends: survives
;; limits: deadline_ms 60000
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (memory.fill (i32.const 0) (i32.const 255) (i32.mul (memory.size) (i32.const 65536)))
    ;; 16 MiB are 256 pages.
    (i32.sub (memory.size) (i32.const 256))))
