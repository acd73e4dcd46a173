//! The lines that WASI programs write: to the log, or as records.
//!
//! Standard error goes to the log line by line, and so does standard output, except that of a command: there each line is a record on the
//! channel `stdout`. Lines are bytes up to a newline; what is begun when the instance ends is a line too, and an empty line is none.
//!
//! A line for the log that is longer than its limit is cut up. A line that is longer than a record may be is left out whole,
//! since half of a line is something else than what was said; the log says so. So it does of lines above the rate and of lines
//! without the grant `emit:stdout`. None of it is an error for the program.

use sanderling_protocol::{
    deployment::STDOUT,
    worker::{MAX_LOG_LINE, MAX_RECORD},
};

use super::{
    HostState,
    output::{queue, write_line},
    wasi::Standard,
};

const INFO: u8 = 2;
const WARN: u8 = 1;

/// What is begun but not ended on standard output and standard error.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    output: Begun,
    error: Begun,
    /// Records of this instance that were above the rate.
    refused: u64,
}

#[derive(Debug, Default)]
struct Begun {
    line: Vec<u8>,
    /// Bytes of the line that are not kept, since it is longer than a record.
    beyond: usize,
}

/// Which of the two streams of a WASI program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Error,
}

impl Stream {
    fn begun(self, state: &mut HostState) -> &mut Begun {
        match self {
            Self::Output => &mut state.own.lines.output,
            Self::Error => &mut state.own.lines.error,
        }
    }

    fn level(self) -> u8 {
        match self {
            Self::Output => INFO,
            Self::Error => WARN,
        }
    }

    fn is_emitted(self, state: &HostState) -> bool {
        self == Self::Output && state.standard == Standard::Frame
    }
}

/// Takes the whole lines in `bytes` and keeps what follows the last one. Returns how often a line or a piece of one was looked at.
pub(super) fn write_stream(state: &mut HostState, stream: Stream, bytes: &[u8]) -> usize {
    let emitted = stream.is_emitted(state);
    let mut pieces = 0;
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
        if emitted {
            keep(&mut state.own.lines.output, text);
        } else {
            text.chunks(MAX_LOG_LINE).for_each(|piece| append(state, stream, piece));
        }
        if ended {
            end_line(state, stream);
        }
        pieces += 1 + text.len() / MAX_LOG_LINE;
    }
    pieces
}

/// Takes what is left of both streams as lines.
pub(crate) fn end_lines(state: &mut HostState) {
    end_line(state, Stream::Output);
    end_line(state, Stream::Error);
    let refused = std::mem::take(&mut state.own.lines.refused);
    if refused > 0 {
        let most = state.limits.emit_per_s;
        let text = format!(
            "{refused} lines of standard output were dropped: there were more than {most} records a second; raise emit_per_s"
        );
        write_line(state, WARN, text.as_bytes());
    }
}

fn keep(begun: &mut Begun, text: &[u8]) {
    let room = MAX_RECORD.saturating_sub(begun.line.len());
    let kept = text.get(..room).unwrap_or(text);
    begun.line.extend_from_slice(kept);
    begun.beyond = begun.beyond.saturating_add(text.len() - kept.len());
}

fn append(state: &mut HostState, stream: Stream, piece: &[u8]) {
    if stream.begun(state).line.len() + piece.len() > MAX_LOG_LINE {
        end_line(state, stream);
    }
    stream.begun(state).line.extend_from_slice(piece);
}

fn end_line(state: &mut HostState, stream: Stream) {
    let mut begun = std::mem::take(stream.begun(state));
    if !begun.line.is_empty() {
        if stream.is_emitted(state) {
            emit(state, &begun);
        } else {
            write_line(state, stream.level(), &begun.line);
        }
    }
    // Its room serves the next line.
    begun.line.clear();
    begun.beyond = 0;
    *stream.begun(state) = begun;
}

fn emit(state: &mut HostState, line: &Begun) {
    let Some(channel) = state.grants.emit.iter().position(|granted| granted == STDOUT) else {
        return deny(state);
    };
    if line.beyond > 0 {
        let length = line.line.len().saturating_add(line.beyond);
        let text = format!(
            "a line of {length} bytes on standard output was left out: a record has at most {MAX_RECORD} bytes"
        );
        write_line(state, WARN, text.as_bytes());
    } else if queue(state, channel, &line.line).is_err() {
        state.own.lines.refused += 1;
    }
}

fn deny(state: &mut HostState) {
    let first = !state.denied().contains_key(STDOUT);
    // The refusal is all that is wanted of it.
    let _ = state.allow(false, STDOUT);
    if first {
        let text = "lines on standard output are dropped: a command's output is emitted on the channel stdout, which takes the grant \
                    emit:stdout and a channel of that name";
        write_line(state, WARN, text.as_bytes());
    }
}
