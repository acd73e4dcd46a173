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
//! | `restart` | [`ModuleRequest`] | [`Restarted`] |
//! | `logs` | [`LogsRequest`] | [`Logging`]; then a [`LogLine`] for each line on `device/{id}/log`, at QoS 0 |
//! | `capsules` | – | the capsules that there are, [`Listed`](crate::capsule::Listed) |
//! | `capsule` | [`CapsuleRequest`] | a [`Piece`] |
//! | `capture` of a sensor | [`FrameRequest`] | [`Captured`] |
//! | `capture` of a module | [`ModuleRequest`] | [`KeptCapsule`] |

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    capsule::{CapsuleId, Piece},
    reported::ModuleState,
};

/// A request is at most this long, in bytes.
pub const MAX_REQUEST: usize = 4096;

/// A lease for log lines is at most this long, in seconds.
pub const MAX_LEASE_S: u32 = 3600;

/// Why a command is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// There is no command of that name.
    #[error("unknown command {0:?}; known are ping, report, refresh, restart, logs, capsules, capsule and capture")]
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
    Restart(ModuleRequest),
    /// Send what modules log, for a while.
    Logs(LogsRequest),
    /// Say which capsules there are.
    Capsules,
    /// Give a piece of a capsule.
    Capsule(CapsuleRequest),
    /// Give a piece of the next frame of a sensor, or keep a capsule of what a module makes of its next frame.
    Capture(CaptureRequest),
}

/// The request of `logs`. An empty one is `{}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsRequest {
    /// For so long, at most [`MAX_LEASE_S`]; 0 ends the lease that runs.
    pub lease_s: u32,
    /// Lines of this level and of more urgent ones.
    pub level: LogLevel,
    /// Lines of this module alone.
    pub module: Option<String>,
}

impl Default for LogsRequest {
    fn default() -> Self {
        Self { lease_s: 60, level: LogLevel::Info, module: None }
    }
}

/// The body of the answer to `logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// How long lines are sent.
    pub lease_s: u32,
    /// Lines a second that are sent at most.
    pub lines_per_s: u32,
}

/// How urgent a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody.
    Error,
    /// What may.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// Every step.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As guests give it to the host function `log`.
    pub const fn number(self) -> u8 {
        match self {
            Self::Error => 0,
            Self::Warn => 1,
            Self::Info => 2,
            Self::Debug => 3,
            Self::Trace => 4,
        }
    }
}

impl From<u8> for LogLevel {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Error,
            1 => Self::Warn,
            2 => Self::Info,
            3 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// `device/{id}/log`: a line that a module logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, Unix milliseconds by the device's clock.
    pub at_ms: i64,
    /// Which module.
    pub module: String,
    /// How urgent.
    pub level: LogLevel,
    /// What it says, at most [`crate::worker::MAX_LOG_LINE`] bytes.
    pub text: String,
    /// Lines before this one that were not sent, since there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What `capsule` is asked with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapsuleRequest {
    /// Which capsule.
    pub id: CapsuleId,
    /// Where the piece begins.
    #[serde(default)]
    pub offset: u64,
}

/// What `capture` is asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureRequest {
    /// A frame as a sensor delivers it.
    Frame(FrameRequest),
    /// The execution that a module's next frame leads to, as a capsule; its deployment grants `capture`.
    Module(ModuleRequest),
}

impl CaptureRequest {
    /// By whether it names a module, so that what is wrong with it is told of the one that it is.
    fn read(payload: &[u8]) -> serde_json::Result<Self> {
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload)?;
        if fields.contains_key("module") {
            serde_json::from_value(fields.into()).map(Self::Module)
        } else {
            serde_json::from_value(fields.into()).map(Self::Frame)
        }
    }
}

/// What `capture` is asked with for a frame of a sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameRequest {
    /// Which sensor.
    pub sensor: String,
    /// Another piece of a frame that was captured before, by its number; without it the next frame is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Where the piece begins.
    #[serde(default)]
    pub offset: u64,
}

/// What `capture` of a module is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCapsule {
    /// The capsule; `capsule` gives it.
    pub capsule: CapsuleId,
    /// Whether it lacks the state that the guest was in, so that it cannot be run again: the guest's memory does not fit
    /// `limits.capsule_kib`, or cannot be read in full.
    pub partial: bool,
}

/// What `capture` is answered with: the frame as the sensor delivered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// The frame's number.
    pub seq: u64,
    /// When it was captured, Unix nanoseconds.
    pub captured_unix_ns: i64,
    /// What the content is: `jpeg`, `png`, `gray8` and so on, or the kind of frame where that is no image.
    pub format: String,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// A piece of the content.
    pub piece: Piece,
}

/// The request of `restart`, and of `capture` for a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRequest {
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
            "logs" => request("logs", r#"{"lease_s":60,"level":"info","module":"scratch"}"#, payload).map(Self::Logs),
            "capsules" => Ok(Self::Capsules),
            "capsule" => request("capsule", r#"{"id":"0123456789abcdef","offset":0}"#, payload).map(Self::Capsule),
            "capture" => {
                let example = r#"{"sensor":"cam0"} or {"module":"scratch"}"#;
                CaptureRequest::read(payload).map(Self::Capture).map_err(|error| wrong("capture", example, &error))
            }
            other => Err(CommandError::Unknown(other.chars().take(64).collect())),
        }
    }
}

fn request<'p, T: Deserialize<'p>>(
    command: &'static str,
    example: &'static str,
    payload: &'p [u8],
) -> Result<T, CommandError> {
    serde_json::from_slice(payload).map_err(|error| wrong(command, example, &error))
}

fn wrong(command: &'static str, example: &'static str, error: &serde_json::Error) -> CommandError {
    CommandError::Request { command, problem: error.to_string(), example }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_commands_and_bounds_their_requests() {
        assert_eq!(Command::parse("ping", b""), Ok(Command::Ping));
        let restart = Command::Restart(ModuleRequest { module: "scratch".into() });
        assert_eq!(Command::parse("restart", br#"{"module":"scratch"}"#), Ok(restart));
        assert_eq!(Command::parse("rm", b""), Err(CommandError::Unknown("rm".into())));
        let id = "0123456789abcdef".parse().unwrap();
        let request = br#"{"id":"0123456789abcdef","offset":7}"#;
        assert_eq!(Command::parse("capsule", request), Ok(Command::Capsule(CapsuleRequest { id, offset: 7 })));
        for wrong in [&b""[..], b"{}", br#"{"id":"../../../etc/pwd"}"#, br#"{"id":"0123456789abcdef","x":1}"#] {
            assert!(matches!(Command::parse("capsule", wrong), Err(CommandError::Request { .. })));
        }
        assert_eq!(Command::parse("ping", &[0; MAX_REQUEST + 1]), Err(CommandError::TooLong(MAX_REQUEST + 1)));
    }

    #[test]
    fn what_a_request_for_logs_leaves_out_has_a_default() {
        let asked = |text: &str| Command::parse("logs", text.as_bytes());
        assert_eq!(asked("{}"), Ok(Command::Logs(LogsRequest { lease_s: 60, level: LogLevel::Info, module: None })));
        let all = LogsRequest { lease_s: 5, level: LogLevel::Trace, module: Some("m".into()) };
        assert_eq!(asked(r#"{"lease_s":5,"level":"trace","module":"m"}"#), Ok(Command::Logs(all)));
        assert!(asked(r#"{"level":"loud"}"#).is_err());
        for number in 0..=5 {
            assert_eq!(LogLevel::from(number).number(), number.min(4));
        }
    }

    #[test]
    fn captures_a_sensor_or_a_module_and_says_what_is_wrong_with_either() {
        let capture = |text: &str| Command::parse("capture", text.as_bytes());
        let frame = FrameRequest { sensor: "cam0".into(), seq: None, offset: 0 };
        assert_eq!(capture(r#"{"sensor":"cam0"}"#), Ok(Command::Capture(CaptureRequest::Frame(frame))));
        let module = ModuleRequest { module: "scratch".into() };
        assert_eq!(capture(r#"{"module":"scratch"}"#), Ok(Command::Capture(CaptureRequest::Module(module))));
        for (wrong, why) in [
            ("{}", "missing field `sensor`"),
            (r#"{"module":"m","sensor":"cam0"}"#, "unknown field `sensor`"),
            (r#"{"module":7}"#, "expected a string"),
            ("[]", "expected a map"),
        ] {
            let error = capture(wrong).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why) && error.contains(r#"{"module":"scratch"}"#), "{wrong}: {error}");
        }
    }

    #[test]
    fn says_what_a_request_should_look_like() {
        for wrong in ["", "scratch", "{}", r#"{"module":1}"#, r#"{"module":"m","force":true}"#] {
            let error = Command::parse("restart", wrong.as_bytes()).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|text| text.ends_with(r#"{"module":"scratch"}"#)), "{wrong}: {error:?}");
        }
    }
}
