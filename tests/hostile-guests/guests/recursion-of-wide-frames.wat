;; Recursion without end, of a function whose frame holds as much as it can.
;; ends: memory in sanderling_frame
(module
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func $deeper (param v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128) (result v128)
    (v128.xor
      (call $deeper
        (local.get 15) (local.get 14) (local.get 13) (local.get 12) (local.get 11) (local.get 10) (local.get 9)
        (local.get 8) (local.get 7) (local.get 6) (local.get 5) (local.get 4) (local.get 3) (local.get 2)
        (local.get 1) (local.get 0))
      (local.get 3)))
  (func (export "sanderling_frame") (result i32)
    (local v128)
    (i32x4.extract_lane 0
      (call $deeper
        (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0)
        (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0)
        (local.get 0) (local.get 0)))))
