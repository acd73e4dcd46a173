//! What a worker is confined by, measure by measure, so that all sides call each by one name: the worker, which takes them; the agent,
//! which reports what is missing and decides whether to go on; and `sanderling-agent doctor`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One measure of a worker's confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// No call of the kernel but those on a short list (seccomp); any other ends the worker.
    SystemCalls,
    /// No program that it executes could give it more than it has.
    NoNewPrivileges,
    /// No capabilities, even where the agent runs as root.
    Capabilities,
    /// It ends when its supervisor does.
    ParentDeath,
    /// Its address space is bounded by the limits of its module.
    AddressSpace,
    /// No new file descriptors.
    Descriptors,
    /// What it holds is not written into a core dump.
    CoreDumps,
    /// What it inherits cannot be changed: the size of the frame ring, and the files of module and models.
    Inherited,
    /// A session and process group of its own, which no signal to the agent's group reaches.
    Session,
    /// Nothing of the agent's environment.
    Environment,
    /// No path of the file system (landlock).
    Files,
    /// No TCP (landlock).
    Network,
    /// No abstract sockets of others, and no signals to them (landlock).
    Scopes,
    /// Where memory runs out, the kernel ends a worker first.
    OomScore,
}

/// There is no measure of this name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no measure of confinement")]
pub struct UnknownMeasure(pub String);

impl Measure {
    /// All of them, the essential ones first.
    pub const ALL: [Self; 14] = [
        Self::SystemCalls,
        Self::NoNewPrivileges,
        Self::Capabilities,
        Self::ParentDeath,
        Self::AddressSpace,
        Self::Descriptors,
        Self::CoreDumps,
        Self::Inherited,
        Self::Session,
        Self::Environment,
        Self::Files,
        Self::Network,
        Self::Scopes,
        Self::OomScore,
    ];

    /// Its name, as it is reported.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SystemCalls => "system_calls",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::Capabilities => "capabilities",
            Self::ParentDeath => "parent_death",
            Self::AddressSpace => "address_space",
            Self::Descriptors => "descriptors",
            Self::CoreDumps => "core_dumps",
            Self::Inherited => "inherited",
            Self::Session => "session",
            Self::Environment => "environment",
            Self::Files => "files",
            Self::Network => "network",
            Self::Scopes => "scopes",
            Self::OomScore => "oom_score",
        }
    }

    /// Whether a worker without it is not confined. The others are a second wall behind the list of system calls, or spare the rest of
    /// the machine, and many kernels that are in use do not give them.
    pub const fn is_essential(self) -> bool {
        !matches!(self, Self::Files | Self::Network | Self::Scopes | Self::OomScore)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Measure {
    type Err = UnknownMeasure;

    fn from_str(name: &str) -> Result<Self, UnknownMeasure> {
        let found = Self::ALL.into_iter().find(|measure| measure.name() == name);
        found.ok_or_else(|| UnknownMeasure(name.chars().take(64).collect()))
    }
}

/// A measure that is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Which.
    pub measure: Measure,
    /// What was found, for people.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.measure, self.why)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_measure_has_one_name_everywhere() {
        for measure in Measure::ALL {
            assert_eq!(measure.name().parse(), Ok(measure));
            assert_eq!(serde_json::to_value(measure).unwrap(), measure.name());
        }
        assert_eq!(Measure::ALL.into_iter().collect::<BTreeSet<_>>().len(), Measure::ALL.len());
        assert_eq!("landlock".parse::<Measure>(), Err(UnknownMeasure("landlock".into())));
    }

    #[test]
    fn the_list_of_system_calls_is_essential_and_landlock_is_not() {
        let further: Vec<Measure> = Measure::ALL.into_iter().filter(|measure| !measure.is_essential()).collect();
        assert_eq!(further, [Measure::Files, Measure::Network, Measure::Scopes, Measure::OomScore]);
    }
}
