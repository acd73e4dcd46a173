;; Wants its frame where all but one byte fits, then outside of its memory, then nowhere.
;; ends: survives
(module
  (memory (export "memory") 1)
  (global $asked (mut i32) (i32.const 0))
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_buffer") (param $len i32) (result i32)
    (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
    (if (i32.eq (global.get $asked) (i32.const 1))
      (then (return (i32.sub (i32.const 65537) (local.get $len)))))
    (if (i32.eq (global.get $asked) (i32.const 2)) (then (return (i32.const -1))))
    (if (i32.eq (global.get $asked) (i32.const 3)) (then (return (i32.const 0x80000000))))
    (i32.const 0))
  (func (export "sanderling_frame") (result i32) (unreachable)))
