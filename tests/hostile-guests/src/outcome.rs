//! What becomes of a guest, as it is written in its text and in the table: `survives`, `deadline in sanderling_frame`,
//! `trap unreachable in start section`.

use std::{fmt, str::FromStr};

use sanderling_protocol::worker::{Fault, FaultCode};

/// What the runtime calls the start section in a fault.
const START_SECTION: &str = "(start section)";

const CODES: [FaultCode; 9] = [
    FaultCode::Trap,
    FaultCode::Fuel,
    FaultCode::Deadline,
    FaultCode::Memory,
    FaultCode::NativeMemory,
    FaultCode::Denied,
    FaultCode::Init,
    FaultCode::Crash,
    FaultCode::Guest,
];

/// What became of a guest, or must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, its frames were handled or refused, and it stopped when asked.
    Survived,
    /// It was stopped.
    Stopped {
        /// The fault's code.
        code: FaultCode,
        /// The trap's kind.
        trap: Option<String>,
        /// The export that ran, or what was being done with the module.
        place: String,
    },
}

impl Outcome {
    /// Of a fault, while `stage` of the guest's life was the present one.
    pub fn of(fault: &Fault, stage: &str) -> Self {
        let place = match fault.export.as_deref() {
            Some(START_SECTION) => "start section",
            Some(export) => export,
            None => stage,
        };
        Self::Stopped { code: fault.code, trap: fault.trap.clone(), place: place.to_owned() }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Survived => write!(f, "survives"),
            Self::Stopped { code, trap: Some(trap), place } => write!(f, "{code} {trap} in {place}"),
            Self::Stopped { code, trap: None, place } => write!(f, "{code} in {place}"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "survives" {
            return Ok(Self::Survived);
        }
        let wrong = || format!("{text:?} is no outcome");
        let (what, place) = text.split_once(" in ").ok_or_else(wrong)?;
        let (code, trap) = what.split_once(' ').map_or((what, None), |(code, trap)| (code, Some(trap.to_owned())));
        let code = CODES.into_iter().find(|known| known.to_string() == code).ok_or_else(wrong)?;
        Ok(Self::Stopped { code, trap, place: place.to_owned() })
    }
}
