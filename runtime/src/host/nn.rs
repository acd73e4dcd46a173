//! `wasi_ephemeral_nn` and `nn_output_info`.

use std::sync::Arc;

use sanderling_protocol::worker::Fault;
use wasmi::{Linker, errors::LinkerError};

use super::HostState;

/// A model under the name by which the guest loads it.
#[derive(Clone, Debug)]
pub struct NamedModel {
    /// The name given to `load_by_name`.
    pub name: String,
    /// The ONNX file.
    pub bytes: Arc<[u8]>,
}

/// Models, execution contexts and tensors of one guest.
#[derive(Debug)]
pub struct NnState {}

impl NnState {
    /// Parses the models.
    ///
    /// # Errors
    /// An `init` fault that names the model that does not parse.
    pub fn new(_models: Vec<NamedModel>) -> Result<Self, Fault> {
        Ok(Self {})
    }
}

/// Links the functions.
///
/// # Errors
/// Where a name is linked twice.
pub fn register(_linker: &mut Linker<HostState>) -> Result<(), LinkerError> {
    Ok(())
}
