//! Landlock: a second wall behind the list of system calls, where the kernel has it.
//!
//! Nothing is allowed: there is no rule. Kernels know different parts of it, so that each part is asked for by itself when not all of it is in
//! force.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};

use crate::confine::Held;

/// The latest part that is used.
const KNOWN: ABI = ABI::V6;

/// What is in force.
pub(crate) struct Landlocked {
    /// No path can be opened, changed or removed.
    pub(crate) files: Held,
    /// No TCP port can be bound or connected to.
    pub(crate) network: Held,
    /// No abstract socket of others, and no signal to them.
    pub(crate) scopes: Held,
}

/// Restricts this process for good, as far as the kernel can.
pub(crate) fn restrict() -> Landlocked {
    match enforce() {
        Ok(RulesetStatus::FullyEnforced) => Landlocked { files: Ok(()), network: Ok(()), scopes: Ok(()) },
        Ok(RulesetStatus::PartiallyEnforced) => {
            let part = |known: bool, why: &str| if known { Ok(()) } else { Err(why.to_owned()) };
            Landlocked {
                files: part(knows_files(), "this kernel's landlock does not cover truncation and devices"),
                network: part(knows_network(), "this kernel's landlock does not cover TCP"),
                scopes: part(knows_scopes(), "this kernel's landlock does not cover signals and abstract sockets"),
            }
        }
        Ok(RulesetStatus::NotEnforced) => Landlocked::nothing("this kernel has no landlock"),
        Err(error) => Landlocked::nothing(&format!("landlock failed: {error}")),
    }
}

impl Landlocked {
    fn nothing(why: &str) -> Self {
        Self { files: Err(why.to_owned()), network: Err(why.to_owned()), scopes: Err(why.to_owned()) }
    }
}

fn enforce() -> Result<RulesetStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}

fn required() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

fn knows_files() -> bool {
    required().handle_access(AccessFs::from_all(KNOWN)).and_then(Ruleset::create).is_ok()
}

fn knows_network() -> bool {
    required().handle_access(AccessNet::from_all(KNOWN)).and_then(Ruleset::create).is_ok()
}

fn knows_scopes() -> bool {
    required().scope(Scope::from_all(KNOWN)).and_then(Ruleset::create).is_ok()
}
