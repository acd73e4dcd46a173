;; A guest that leans on all that could differ between processors: it scores images, keeps sums in f64 and NaNs in memory, and ends when its sum
;; becomes an integer that it cannot become. Its memory: 64 and 128 an operation each, 256 the answers of calls, 512 what is kept, 1024 the model's
;; outputs, 4096 a small tensor.
(module
    (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "image_tensor" (func $image_tensor (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "nn_input_image" (func $nn_input_image (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "load_by_name" (func $load_by_name (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "init_execution_context" (func $init (param i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
    (import "wasi_ephemeral_nn" "get_output" (func $get_output (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (global $sum (mut f64) (f64.const 0))
    (global $frames (mut i32) (i32.const 0))
    (data (i32.const 0) "defect")
    (data (i32.const 16) "sums")
    (data (i32.const 64) "THE MODEL'S")
    (data (i32.const 128) "A SMALL ONE")
    ;; An errno is a fault of this guest.
    (func $must (param $errno i32)
        (if (local.get $errno) (then (unreachable))))
    (func (export "sanderling_abi") (result i32) (i32.const 1))
    (func (export "sanderling_start") (result i32)
        (call $must (call $load_by_name (i32.const 0) (i32.const 6) (i32.const 256)))
        (call $must (call $init (i32.load (i32.const 256)) (i32.const 260)))
        (call $random_get (i32.const 264) (i32.const 8)))
    (func (export "sanderling_frame") (result i32)
        (global.set $frames (i32.add (global.get $frames) (i32.const 1)))
        (call $must (call $nn_input_image (i32.load (i32.const 260)) (i32.const 0) (i32.const 64)))
        (call $must (call $compute (i32.load (i32.const 260))))
        (call $must (call $get_output (i32.load (i32.const 260)) (i32.const 0) (i32.const 1024) (i32.const 1024) (i32.const 272)))
        (call $must (call $get_output (i32.load (i32.const 260)) (i32.const 1) (i32.const 1536) (i32.const 1024) (i32.const 276)))
        (call $must (call $image_tensor (i32.const 128) (i32.const 4096) (i32.const 4096)))
        (call $must (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 280)))
        ;; sum = sum * 1.1 + sqrt(score) + the tensor's first element / 3
        (global.set $sum
            (f64.add
                (f64.add
                    (f64.mul (global.get $sum) (f64.const 1.1))
                    (f64.sqrt (f64.promote_f32 (f32.load (i32.const 1024)))))
                (f64.div (f64.promote_f32 (f32.load (i32.const 4096))) (f64.const 3))))
        (f64.store (i32.const 512) (global.get $sum))
        ;; A NaN of the processor's own, and one that was given.
        (f64.store (i32.const 520) (f64.sub (f64.const inf) (f64.const inf)))
        (f32.store (i32.const 528) (f32.min (f32.const nan:0x1234) (f32.load (i32.const 1024))))
        (i32.store (i32.const 532) (i32.trunc_sat_f32_s (f32.mul (f32.load (i32.const 1536)) (f32.const 1e20))))
        (drop (call $emit (i32.const 16) (i32.const 4) (i32.const 512) (i32.const 24)))
        (if (i32.ge_u (global.get $frames) (i32.const 4))
            (then (drop (i64.trunc_f64_s (f64.div (global.get $sum) (f64.const 0))))))
        (i32.const 0)))
