//! Why a call of wasi-nn fails: an errno for the guest, and a sentence for people.

use sanderling_guest::tensor::MAX_RANK;
use thiserror::Error;

use super::MAX_CONTEXTS;
use crate::{host::Errno, infer::InferError};

/// Why a call fails.
#[derive(Debug, Error, PartialEq, Eq)]
pub(in crate::host) enum NnError {
    /// A bad pointer or length.
    #[error("a pointer or a length reaches outside of the guest's memory")]
    Pointer,
    /// The guest exports no memory.
    #[error("the guest exports no memory")]
    Memory,
    /// `load_by_name` of what there is not.
    #[error("no model is bound to the name {name:?}; the deployment binds {bound}")]
    Name {
        /// The name asked for.
        name: String,
        /// The names that there are, for people.
        bound: String,
    },
    /// `load` of another encoding.
    #[error("encoding {0} is none that can be loaded here; 1 (ONNX) and 5 (autodetect) are")]
    Encoding(i32),
    /// `load` for a processor that is not used here.
    #[error("target {0} is none that models run on here; 0 (cpu) and 3 (auto) are")]
    Target(i32),
    /// `load` for something that is no processor.
    #[error("{0} is no target; 0 (cpu) and 3 (auto) are")]
    NoTarget(i32),
    /// `load` of another number of parts.
    #[error("an ONNX model is given in one part, not in {0}")]
    Parts(u32),
    /// There is no such graph.
    #[error("there is no graph {0}; load a model first")]
    Graph(i32),
    /// There is no such context.
    #[error("there is no execution context {0}; make one of a graph first")]
    Context(i32),
    /// Too many contexts.
    #[error("a guest has at most {MAX_CONTEXTS} execution contexts; make them once, not for every frame")]
    Contexts,
    /// Too many dimensions.
    #[error("a tensor has at most {MAX_RANK} dimensions, not {0}")]
    Rank(u32),
    /// More elements than can be counted.
    #[error("the dimensions {0:?} are more elements than memory can hold")]
    Elements(Vec<usize>),
    /// The data do not fit type and dimensions.
    #[error("{len} bytes are no tensor of type {code} with the dimensions {dims:?}")]
    Data {
        /// Bytes given.
        len: usize,
        /// The type's code.
        code: u8,
        /// The dimensions.
        dims: Vec<usize>,
    },
    /// The tensors together are above the limit.
    #[error(
        "a tensor of {bytes} bytes does not fit beside the others; {limit} are allowed for all: raise native_memory_mib"
    )]
    Room {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The guest's buffer is too small, which a guest may ask for on purpose.
    #[error("the output does not fit the buffer")]
    Buffer,
    /// The inference port.
    #[error(transparent)]
    Infer(#[from] InferError),
}

impl NnError {
    /// The `nn_errno` of wasi-nn.
    pub(super) fn errno(&self) -> i32 {
        match self {
            Self::Pointer
            | Self::Parts(_)
            | Self::NoTarget(_)
            | Self::Graph(_)
            | Self::Context(_)
            | Self::Rank(_)
            | Self::Data { .. }
            | Self::Infer(InferError::NoPort { .. } | InferError::Type { .. } | InferError::Shape { .. }) => {
                INVALID_ARGUMENT
            }
            Self::Encoding(_) => INVALID_ENCODING,
            Self::Memory => MISSING_MEMORY,
            Self::Contexts | Self::Infer(InferError::Busy { .. }) => BUSY,
            Self::Target(_) | Self::Infer(InferError::PortType { .. }) => UNSUPPORTED_OPERATION,
            Self::Elements(_) | Self::Room { .. } | Self::Buffer | Self::Infer(InferError::TooLarge { .. }) => {
                TOO_LARGE
            }
            Self::Name { .. } => NOT_FOUND,
            Self::Infer(
                InferError::Load { .. }
                | InferError::Panicked { .. }
                | InferError::Missing { .. }
                | InferError::NotComputed
                | InferError::Run { .. },
            ) => RUNTIME_ERROR,
        }
    }

    /// Whether people are told: not where a guest only asks how large an output is.
    pub(super) fn is_worth_a_line(&self) -> bool {
        !matches!(self, Self::Buffer)
    }
}

/// A bad pointer, which is the only errno that reading and writing guest memory gives.
impl From<Errno> for NnError {
    fn from(_: Errno) -> Self {
        Self::Pointer
    }
}

pub(super) const SUCCESS: i32 = 0;
const INVALID_ARGUMENT: i32 = 1;
const INVALID_ENCODING: i32 = 2;
const MISSING_MEMORY: i32 = 3;
const BUSY: i32 = 4;
const RUNTIME_ERROR: i32 = 5;
/// Also what every function answers without its grant.
pub(super) const UNSUPPORTED_OPERATION: i32 = 6;
const TOO_LARGE: i32 = 7;
const NOT_FOUND: i32 = 8;
