;; Has its configuration copied over itself, without end.
;; ends: fuel in sanderling_frame
;; limits: deadline_ms 5000, fuel_per_frame 10000000
(module
  (import "sanderling_v1" "config" (func $config (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32)
    (loop $again (drop (call $config (i32.const 0) (i32.const 65536))) (br $again))
    (unreachable)))
