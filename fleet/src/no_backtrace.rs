//! In the place of the module `backtrace`, where the tool is built without the feature of that name.

use anyhow::{Result, bail};
use sanderling_runtime::replay::ReplaySpec;
use serde_json::Value;

/// An option that says what is missing.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct BacktraceOptions {
    /// Not in this build of the tool: print where in the module it ended.
    #[arg(long)]
    backtrace: bool,
}

impl BacktraceOptions {
    /// Adds nothing.
    ///
    /// # Errors
    /// Where a backtrace is wanted.
    pub(crate) fn tell(&self, _: &[u8], _: &ReplaySpec<'_>, _: &mut Vec<String>, _: &mut Value) -> Result<()> {
        if self.backtrace {
            bail!(
                "this sanderling was built without backtraces; build it with the feature `backtrace`, which is on by default"
            );
        }
        Ok(())
    }
}
