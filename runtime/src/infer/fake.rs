//! Inference in memory: a model of one byte says how many inputs it sums up; no library behind it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sanderling_guest::tensor::TensorType;

use super::{Context, Graph, InferError, Inference, TensorInfo, TensorView};

/// Graphs that sum their f32 inputs, all of one shape, into output 0; output 1 is the number of runs as i64.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeInference {
    /// How many models were parsed.
    pub(crate) parsed: Arc<AtomicUsize>,
}

impl Inference for FakeInference {
    fn load(&self, name: &str, onnx: &[u8]) -> Result<Arc<dyn Graph>, InferError> {
        self.parsed.fetch_add(1, Ordering::Relaxed);
        match onnx {
            [inputs] => Ok(Arc::new(FakeGraph { inputs: usize::from(*inputs) })),
            _ => Err(InferError::Load { name: name.to_owned(), reason: "not one byte".to_owned() }),
        }
    }
}

struct FakeGraph {
    inputs: usize,
}

impl Graph for FakeGraph {
    fn context(self: Arc<Self>) -> Result<Box<dyn Context>, InferError> {
        Ok(Box::new(FakeContext { inputs: vec![(vec![], vec![]); self.inputs], sum: None, runs: 0_i64.to_ne_bytes() }))
    }

    fn held(&self) -> usize {
        100
    }
}

struct FakeContext {
    inputs: Vec<(Vec<usize>, Vec<u8>)>,
    sum: Option<Vec<u8>>,
    runs: [u8; 8],
}

impl FakeContext {
    fn dims(&self) -> &[usize] {
        self.inputs.first().map(|(dims, _)| dims.as_slice()).unwrap_or_default()
    }
}

impl Context for FakeContext {
    fn wanted(&self, index: usize) -> Option<TensorType> {
        self.inputs.get(index).map(|_| TensorType::F32)
    }

    fn input(&mut self, index: usize, element: TensorType, dims: &[usize]) -> Result<&mut [u8], InferError> {
        let count = self.inputs.len();
        let (shape, bytes) = self.inputs.get_mut(index).ok_or(InferError::NoPort { what: "input", index, count })?;
        if element != TensorType::F32 {
            return Err(InferError::Type { index, expected: TensorType::F32, given: element });
        }
        *shape = dims.to_vec();
        bytes.resize(dims.iter().product::<usize>() * 4, 0);
        Ok(bytes)
    }

    fn compute(&mut self) -> Result<(), InferError> {
        if let Some(index) = self.inputs.iter().position(|(_, bytes)| bytes.is_empty()) {
            return Err(InferError::Missing { index });
        }
        let len = self.dims().iter().product();
        let mut sum = vec![0.0_f32; len];
        for (_, bytes) in &self.inputs {
            for (sum, value) in sum.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += f32::from_ne_bytes(*value);
            }
        }
        self.sum = Some(sum.into_iter().flat_map(f32::to_ne_bytes).collect());
        self.runs = (i64::from_ne_bytes(self.runs) + 1).to_ne_bytes();
        Ok(())
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, InferError> {
        let sum = self.sum.as_ref().ok_or(InferError::NotComputed)?;
        match index {
            0 => Ok(TensorView { element: TensorType::F32, dims: self.dims(), bytes: sum }),
            1 => Ok(TensorView { element: TensorType::I64, dims: &[1], bytes: &self.runs }),
            _ => Err(InferError::NoPort { what: "output", index, count: 2 }),
        }
    }

    fn output_info(&self, index: usize) -> Result<TensorInfo, InferError> {
        self.output(index).map(|tensor| TensorInfo { element: tensor.element, dims: tensor.dims.to_vec() })
    }

    fn held(&self, without: Option<usize>) -> usize {
        let inputs = self.inputs.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        inputs.map(|(_, (_, bytes))| bytes.len()).sum::<usize>() + self.sum.as_ref().map_or(0, Vec::len)
    }
}
