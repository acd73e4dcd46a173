//! The committed model through a guest, beside tract on the same thread; and what loading takes.

use std::hint::black_box;

use anyhow::Result;
use sanderling_runtime::FrameHeader;
use tract_onnx::{
    prelude::{Framework, InferenceModelExt, Tensor},
    tract_core::{
        internal::IntoTValue,
        model::{IntoRunnable, TypedRunnableModel},
    },
};
use wasmi::Module;

use crate::{
    kernels::{self, engine, give, load, start, with_imports},
    measure::take_turns,
    report::{Budget, Row},
};

/// Sets the input from guest memory, computes, and reads both outputs.
const GUEST: &str = r#"
(data (i32.const 0) "model")
(func (export "sanderling_start") (result i32)
  (i32.store (i32.const 128) (i32.const 1)) (i32.store (i32.const 132) (i32.const 1))
  (i32.store (i32.const 136) (i32.const 64)) (i32.store (i32.const 140) (i32.const 64))
  (i32.store (i32.const 96) (i32.const 128)) (i32.store (i32.const 100) (i32.const 4))
  (i32.store8 (i32.const 104) (i32.const 1))
  (i32.store (i32.const 108) (i32.const 65536)) (i32.store (i32.const 112) (i32.const 16384))
  (i32.or (call $load (i32.const 0) (i32.const 5) (i32.const 64))
    (call $context (i32.load (i32.const 64)) (i32.const 68))))
(func (export "sanderling_frame") (result i32)
  (i32.or
    (i32.or (call $input (i32.load (i32.const 68)) (i32.const 0) (i32.const 96))
      (call $compute (i32.load (i32.const 68))))
    (i32.or
      (call $output (i32.load (i32.const 68)) (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 72))
      (call $output (i32.load (i32.const 68)) (i32.const 1) (i32.const 2048) (i32.const 256) (i32.const 72)))))"#;
const IMPORTS: &str = r#"
(import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
(import "wasi_ephemeral_nn" "init_execution_context" (func $context (param i32 i32) (result i32)))
(import "wasi_ephemeral_nn" "set_input" (func $input (param i32 i32 i32) (result i32)))
(import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
(import "wasi_ephemeral_nn" "get_output" (func $output (param i32 i32 i32 i32 i32) (result i32)))"#;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let model = std::fs::read(sanderling_tests::source().join("modules/surface-defect/model/surface-defect.onnx"))?;
    let wasm = std::fs::read(sanderling_tests::guest("surface-defect"))?;
    Ok(vec![inference(&model)?, load_wasm(&wasm)?, load_model(&model)?])
}

fn inference(model: &[u8]) -> Result<Row> {
    let mut guest = start(&with_imports(IMPORTS, 2, GUEST)?, Some(model))?;
    let header = FrameHeader::new("bench", 0);
    let mut native = plan(model)?.spawn()?;
    let input = Tensor::zero::<f32>(&[1, 1, 64, 64])?;
    let turns = take_turns(
        101,
        4,
        &mut [&mut || give(&mut guest, &header, &[]), &mut || {
            black_box(native.run([input.clone().into_tvalue()].into_iter().collect())?);
            Ok(())
        }],
    )?;
    let row = Row::new("inference", "surface-defect.onnx through a guest", "µs", turns.median(0) * 1e6);
    let row = row.beside("tract alone", turns.median(1) * 1e6).ratio(turns.ratio(0, 1));
    Ok(row.within(Budget::RatioAtMost(1.02)))
}

fn plan(mut onnx: &[u8]) -> Result<std::sync::Arc<TypedRunnableModel>> {
    let model = tract_onnx::onnx().model_for_read(&mut onnx)?;
    model.into_typed()?.into_optimized()?.into_runnable()
}

fn load_wasm(wasm: &[u8]) -> Result<Row> {
    let turns = take_turns(
        31,
        1,
        &mut [&mut || load(wasm, None).map(|guest| drop(black_box(guest))), &mut || {
            black_box(Module::new(&engine(true), wasm)?);
            Ok(())
        }],
    )?;
    let what = format!("surface-defect.wasm ({} KB) compiled, linked, instantiated", wasm.len() / 1000);
    let row = Row::new("load-wasm", what, "ms", turns.median(0) * 1e3);
    Ok(row.beside("wasmi compiling all of it", turns.median(1) * 1e3).ratio(turns.ratio(0, 1)))
}

fn load_model(model: &[u8]) -> Result<Row> {
    let guest = kernels::plain(1, r#"(func (export "sanderling_frame") (result i32) (i32.const 0))"#)?;
    let turns = take_turns(
        9,
        1,
        &mut [&mut || load(&guest, Some(model)).map(|guest| drop(black_box(guest))), &mut || {
            black_box(plan(model)?);
            Ok(())
        }],
    )?;
    let what = format!("surface-defect.onnx ({} KB) parsed and optimised", model.len() / 1000);
    let row = Row::new("load-model", what, "ms", turns.median(0) * 1e3);
    Ok(row.beside("tract alone", turns.median(1) * 1e3).ratio(turns.ratio(0, 1)))
}
