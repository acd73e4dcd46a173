//! Inference with the models that the deployment binds, or that the guest brings, over `wasi_ephemeral_nn`.

use super::{Errno, check, host};
use crate::{
    image::ImageOp,
    tensor::{INFO, MAX_RANK, TensorType},
};

/// A failed inference call: wasi-nn's error number, or the host's for the two calls that are Sanderling's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NnError {
    /// An `nn_errno` of wasi-nn: 1 invalid argument, 2 invalid encoding, 3 missing memory, 4 busy, 5 runtime error, 6 unsupported
    /// operation, 7 too large, 8 not found.
    Nn(i32),
    /// An error number of the host.
    Host(Errno),
}

/// The type and shape of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputInfo {
    /// The type of the elements.
    pub element: TensorType,
    /// The number of dimensions.
    pub rank: usize,
    /// The dimensions; those past the rank are 0.
    pub dims: [u32; MAX_RANK],
}

/// An execution context of a model.
#[derive(Debug)]
pub struct Model {
    context: u32,
}

impl Model {
    /// Loads the model that the deployment binds to `name`.
    ///
    /// # Errors
    /// `Nn(8)` where no model has that name, others where it does not load or `infer` is not granted.
    pub fn load(name: &str) -> Result<Self, NnError> {
        let (mut graph, mut context) = (0, 0);
        nn(host::nn_load_by_name(name.as_bytes(), &mut graph))?;
        nn(host::nn_init(graph, &mut context))?;
        Ok(Self { context })
    }

    /// Loads an ONNX model that the guest brings itself. The same bytes are parsed once, however often they are loaded.
    ///
    /// # Errors
    /// `Nn(6)` where `infer:load` is not granted, `Nn(5)` where the host cannot read the model, `Nn(7)` where it is too large, `Nn(4)` where
    /// too many models are in use.
    pub fn from_onnx(onnx: &[u8]) -> Result<Self, NnError> {
        let (mut graph, mut context) = (0, 0);
        nn(host::nn_load(onnx, &mut graph))?;
        nn(host::nn_init(graph, &mut context))?;
        Ok(Self { context })
    }

    /// Makes the current frame the input `index`, natively: the pixels never enter the guest.
    ///
    /// # Errors
    /// `EINVAL` for an operation that does not fit the frame, `ENODATA` where the frame is no image.
    pub fn input_image(&mut self, index: u32, op: &ImageOp) -> Result<(), NnError> {
        check(host::nn_input_image(self.context, index, &op.to_bytes())).map(|_| ()).map_err(NnError::Host)
    }

    /// Sets the input `index` from little-endian bytes.
    ///
    /// # Errors
    /// `Nn(1)` where data and dimensions do not fit each other or the model.
    pub fn input(&mut self, index: u32, element: TensorType, dims: &[u32], data: &[u8]) -> Result<(), NnError> {
        nn(host::nn_set_input(self.context, index, dims, element as u8, data))
    }

    /// Runs the model.
    ///
    /// # Errors
    /// `Nn(5)` where it fails.
    pub fn compute(&mut self) -> Result<(), NnError> {
        nn(host::nn_compute(self.context))
    }

    /// Copies the output `index` into `out` and returns its length in bytes.
    ///
    /// # Errors
    /// `Nn(7)` where `out` is too small.
    pub fn output(&self, index: u32, out: &mut [u8]) -> Result<usize, NnError> {
        let mut written = 0;
        nn(host::nn_get_output(self.context, index, out, &mut written))?;
        Ok(written as usize)
    }

    /// Copies the output `index`, of f32, into an array of its very length.
    ///
    /// # Errors
    /// As [`Model::output`]; `Nn(1)` where it is shorter than `N`.
    pub fn output_f32<const N: usize>(&self, index: u32) -> Result<[f32; N], NnError> {
        let mut bytes = [[0; 4]; N];
        if self.output(index, bytes.as_flattened_mut())? != N * 4 {
            return Err(NnError::Nn(1));
        }
        Ok(bytes.map(f32::from_le_bytes))
    }

    /// The type and shape of the output `index`.
    ///
    /// # Errors
    /// `ENOENT` where the model has no such output.
    pub fn output_info(&self, index: u32) -> Result<OutputInfo, NnError> {
        let mut bytes = [0; INFO];
        check(host::nn_output_info(self.context, index, &mut bytes)).map_err(NnError::Host)?;
        let mut words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let invalid = NnError::Host(Errno(crate::errno::EINVAL));
        let element = words.next().and_then(|code| TensorType::from_u8(code.try_into().ok()?)).ok_or(invalid)?;
        let rank = words.next().ok_or(invalid)? as usize;
        let mut dims = [0; MAX_RANK];
        for (dim, word) in dims.iter_mut().zip(words) {
            *dim = word;
        }
        Ok(OutputInfo { element, rank, dims })
    }
}

fn nn(result: i32) -> Result<(), NnError> {
    if result == 0 { Ok(()) } else { Err(NnError::Nn(result)) }
}
