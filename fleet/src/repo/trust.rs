//! Whom the signed metadata trusts for each role: root for the top-level roles, targets for releases and deployments.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sanderling_protocol::tuf::{Key, Role, Root, Targets, author};

use super::State;
use crate::{home::Home, keys::SigningRole};

/// The metadata that names keys.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    /// The root in force.
    pub(super) root: Root,
    /// The top-level targets metadata.
    pub(super) targets: Targets,
}

impl Trust {
    /// Reads what was signed last.
    pub(super) fn load(home: &Home, state: &State) -> Result<Self> {
        let root = author::read(&state.read_signed(home, "root")?).context("the signed root is damaged")?;
        let targets =
            author::read(&state.read_signed(home, "targets")?).context("the signed targets metadata is damaged")?;
        Ok(Self { root, targets })
    }

    /// Keys and threshold of a role.
    pub(super) fn role(&self, role: SigningRole) -> Result<(Role, &BTreeMap<String, Key>)> {
        let roles = &self.root.roles;
        let listed = match role {
            SigningRole::Root => &roles.root,
            SigningRole::Targets => &roles.targets,
            SigningRole::Snapshot => &roles.snapshot,
            SigningRole::Timestamp => &roles.timestamp,
            SigningRole::Releases | SigningRole::Deployments => return self.delegated(role.name()),
        };
        Ok((listed.clone(), &self.root.keys))
    }

    fn delegated(&self, name: &str) -> Result<(Role, &BTreeMap<String, Key>)> {
        let delegations = self.targets.delegations.as_ref();
        let roles = delegations.and_then(|delegations| delegations.roles.as_ref());
        let role = roles.into_iter().flatten().find(|role| role.name == name);
        let (role, delegations) = role.zip(delegations).with_context(|| {
            format!("the signed targets metadata delegates to no role {name}; was it made by another tool?")
        })?;
        Ok((role.role(), &delegations.keys))
    }
}
