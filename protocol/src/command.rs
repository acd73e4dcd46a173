//! Requests to a device on `device/{id}/cmd/{name}` and their answers.
//!
//! Commands diagnose, they never change what runs. A request is answered on its MQTT 5 response topic with its
//! correlation data; without a response topic it is carried out unanswered.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A request is at most this long, in bytes.
pub const MAX_REQUEST: usize = 4096;

/// Why a command is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// There is no command of that name.
    #[error("unknown command {0:?}; known are ping, report and refresh")]
    Unknown(String),
    /// The request is longer than [`MAX_REQUEST`].
    #[error("the request is {0} bytes long; at most {MAX_REQUEST} are read")]
    TooLong(usize),
}

/// What a device can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer at once.
    Ping,
    /// Publish the reported state now, and answer with it.
    Report,
    /// Look for new metadata now.
    Refresh,
}

impl Command {
    /// Reads a request from the last level of its topic and its payload.
    ///
    /// # Errors
    /// [`CommandError`], whose text is the answer.
    pub fn parse(name: &str, payload: &[u8]) -> Result<Self, CommandError> {
        if payload.len() > MAX_REQUEST {
            return Err(CommandError::TooLong(payload.len()));
        }
        match name {
            "ping" => Ok(Self::Ping),
            "report" => Ok(Self::Report),
            "refresh" => Ok(Self::Refresh),
            other => Err(CommandError::Unknown(other.chars().take(64).collect())),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was carried out.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_commands_and_bounds_their_requests() {
        assert_eq!(Command::parse("ping", b""), Ok(Command::Ping));
        assert_eq!(Command::parse("rm", b""), Err(CommandError::Unknown("rm".into())));
        assert_eq!(Command::parse("ping", &[0; MAX_REQUEST + 1]), Err(CommandError::TooLong(MAX_REQUEST + 1)));
    }
}
