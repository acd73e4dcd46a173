//! Requests to a device on `device/{id}/cmd/{name}` and their answers.
//!
//! Commands diagnose, they never change what runs: `restart` starts a module anew that is deployed already. A request is answered on its
//! MQTT 5 response topic with its correlation data; without a response topic it is carried out unanswered.
//!
//! | name | request | answer's body |
//! |---|---|---|
//! | `ping` | – | the agent's version, how long it has run |
//! | `report` | – | the reported state, which is published too |
//! | `refresh` | – | – |
//! | `restart` | [`RestartRequest`] | [`Restarted`] |

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::reported::ModuleState;

/// A request is at most this long, in bytes.
pub const MAX_REQUEST: usize = 4096;

/// Why a command is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// There is no command of that name.
    #[error("unknown command {0:?}; known are ping, report, refresh and restart")]
    Unknown(String),
    /// The request is not what the command takes.
    #[error("the request is not what {command} takes ({problem}); an example: {example}")]
    Request {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        problem: String,
        /// A request as it should be.
        example: &'static str,
    },
    /// The request is longer than [`MAX_REQUEST`].
    #[error("the request is {0} bytes long; at most {MAX_REQUEST} are read")]
    TooLong(usize),
}

/// What a device can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer at once.
    Ping,
    /// Publish the reported state now, and answer with it.
    Report,
    /// Look for new metadata now.
    Refresh,
    /// Start a module anew: its worker is stopped, its count of faults forgotten, quarantine lifted.
    Restart(RestartRequest),
}

/// The request of `restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartRequest {
    /// The module's name in the deployment that runs.
    pub module: String,
}

/// The body of the answer to `restart`; how it went on is in the reported state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The module.
    pub module: String,
    /// Its state when the command came.
    pub was: ModuleState,
    /// How often it had been started again by then.
    pub restarts: u64,
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
            "restart" => request("restart", r#"{"module":"scratch"}"#, payload).map(Self::Restart),
            other => Err(CommandError::Unknown(other.chars().take(64).collect())),
        }
    }
}

fn request<'p, T: Deserialize<'p>>(
    command: &'static str,
    example: &'static str,
    payload: &'p [u8],
) -> Result<T, CommandError> {
    serde_json::from_slice(payload).map_err(|error| CommandError::Request {
        command,
        problem: error.to_string(),
        example,
    })
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
        let restart = Command::Restart(RestartRequest { module: "scratch".into() });
        assert_eq!(Command::parse("restart", br#"{"module":"scratch"}"#), Ok(restart));
        assert_eq!(Command::parse("rm", b""), Err(CommandError::Unknown("rm".into())));
        assert_eq!(Command::parse("ping", &[0; MAX_REQUEST + 1]), Err(CommandError::TooLong(MAX_REQUEST + 1)));
    }

    #[test]
    fn says_what_a_request_should_look_like() {
        for wrong in ["", "scratch", "{}", r#"{"module":1}"#, r#"{"module":"m","force":true}"#] {
            let error = Command::parse("restart", wrong.as_bytes()).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|text| text.ends_with(r#"{"module":"scratch"}"#)), "{wrong}: {error:?}");
        }
    }
}
