//! The inference port: ONNX bytes to graphs, tensors in, tensors out.
//!
//! Purpose: host functions name only this port; [`tract`] is the adapter behind it, `fake` stands in for it in tests.
//!
//! Invariants: a model is parsed once and shared by all contexts; a context keeps its input tensors, so that a caller
//! writes each of them in place (guest memory or pixels to tensor in one copy, nothing allocated in steady state).
//! Types and shapes are held to the model's before a byte is written; tensors stay below a limit.
//!
//! Failure modes: [`InferError`], each with the input, the type or the shape that is wrong. A model that does not parse
//! or optimise is one of them, also where the library behind the port panics and panics unwind; where they abort,
//! the worker ends and its supervisor says so.

#[cfg(test)]
pub(crate) mod fake;
pub mod models;
pub mod tract;

use std::sync::Arc;

pub use sanderling_guest::tensor::TensorType;
use thiserror::Error;

/// Why a model is not loaded or not run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InferError {
    /// The bytes are not an ONNX model, or one that uses what the library cannot do.
    #[error(
        "the model {name:?} does not load: {reason}; check it with onnxruntime and the list of supported operators"
    )]
    Load {
        /// The model's name.
        name: String,
        /// What the library says.
        reason: String,
    },
    /// The library panicked.
    #[error("the model {name:?} broke the inference library while it was {doing}; it is malformed or unsupported")]
    Panicked {
        /// The model's name.
        name: String,
        /// Loaded, prepared or run.
        doing: &'static str,
    },
    /// The model, one of its tensors, or one of its inputs is above the limit.
    #[error("the model {name:?} needs {what} of {bytes} bytes, {limit} are allowed; raise native_memory_mib")]
    TooLarge {
        /// The model's name.
        name: String,
        /// A tensor, or all weights together.
        what: &'static str,
        /// Bytes of it.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The model's inputs or outputs have a type that guests cannot say.
    #[error("{port} of the model {name:?} has the type {found}; f16, f32, f64, u8, i32 and i64 can be used")]
    PortType {
        /// The model's name.
        name: String,
        /// Which input or output.
        port: String,
        /// The type found.
        found: String,
    },
    /// The guest brought too many models that it still uses.
    #[error("a guest brings at most {most} models at a time; bind models in the deployment, or load each once")]
    Busy {
        /// How many may be in use.
        most: usize,
    },
    /// There is no such input or output.
    #[error("there is no {what} {index}; the model has {count}")]
    NoPort {
        /// `input` or `output`.
        what: &'static str,
        /// The index asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The tensor has not the input's type.
    #[error("input {index} takes {expected:?}, not {given:?}")]
    Type {
        /// The input.
        index: usize,
        /// The model's type.
        expected: TensorType,
        /// The tensor's type.
        given: TensorType,
    },
    /// The tensor has not the input's shape.
    #[error("input {index} takes the shape {expected}, not {given:?}")]
    Shape {
        /// The input.
        index: usize,
        /// The model's shape, with names where it leaves a dimension open.
        expected: String,
        /// The tensor's shape.
        given: Vec<usize>,
    },
    /// An input was never set.
    #[error("input {index} is not set")]
    Missing {
        /// The input.
        index: usize,
    },
    /// There is no output before the first run.
    #[error("the outputs are not computed yet")]
    NotComputed,
    /// The run failed.
    #[error("the model {name:?} does not run: {reason}")]
    Run {
        /// The model's name.
        name: String,
        /// What the library says.
        reason: String,
    },
}

/// A tensor to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'a> {
    /// The type of its elements.
    pub element: TensorType,
    /// Its shape.
    pub dims: &'a [usize],
    /// Its elements, native-endian, without gaps.
    pub bytes: &'a [u8],
}

/// What is known of an output before it is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The type of its elements.
    pub element: TensorType,
    /// Its shape.
    pub dims: Vec<usize>,
}

/// An inference library.
pub trait Inference: Send + Sync {
    /// Parses a model; `name` is for messages.
    ///
    /// # Errors
    /// [`InferError::Load`], [`InferError::Panicked`], [`InferError::PortType`], [`InferError::TooLarge`].
    fn load(&self, name: &str, onnx: &[u8]) -> Result<Arc<dyn Graph>, InferError>;
}

/// A parsed model, shared by all its contexts.
pub trait Graph: Send + Sync {
    /// A place for tensors, to run the model on.
    ///
    /// # Errors
    /// [`InferError::Run`] where the library refuses.
    fn context(self: Arc<Self>) -> Result<Box<dyn Context>, InferError>;

    /// The bytes of its weights, with those of all plans that are kept.
    fn held(&self) -> usize;
}

/// The tensors of one execution context.
pub trait Context: Send {
    /// The type that an input is wanted to have; `None` where there is no such input.
    fn wanted(&self, index: usize) -> Option<TensorType>;

    /// The bytes of an input, to be written by the caller. They keep what was written last where type and shape stay.
    ///
    /// # Errors
    /// [`InferError::NoPort`], [`InferError::Type`], [`InferError::Shape`], [`InferError::TooLarge`].
    fn input(&mut self, index: usize, element: TensorType, dims: &[usize]) -> Result<&mut [u8], InferError>;

    /// Runs the model on the inputs, which keep their values.
    ///
    /// # Errors
    /// [`InferError::Missing`], [`InferError::Run`], [`InferError::Panicked`], and those of loading where a new shape
    /// makes the model be prepared anew.
    fn compute(&mut self) -> Result<(), InferError>;

    /// An output of the last run.
    ///
    /// # Errors
    /// [`InferError::NotComputed`], [`InferError::NoPort`].
    fn output(&self, index: usize) -> Result<TensorView<'_>, InferError>;

    /// Type and shape of an output: of the last run, or before it where the model's shapes are fixed.
    ///
    /// # Errors
    /// As [`Context::output`].
    fn output_info(&self, index: usize) -> Result<TensorInfo, InferError>;

    /// The bytes of its input and output tensors, but for the input `without`.
    fn held(&self, without: Option<usize>) -> usize;
}
