//! `image_tensor` and `nn_input_image`.

use wasmi::{Linker, errors::LinkerError};

use super::HostState;

/// Links the functions.
///
/// # Errors
/// Where a name is linked twice.
pub fn register(_linker: &mut Linker<HostState>) -> Result<(), LinkerError> {
    Ok(())
}
