//! Tells in words how a worker process ended.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use sanderling_protocol::worker::{Fault, FaultCode};

/// Text that a worker sends for people is cut to this length, in bytes.
const MAX_TEXT: usize = 1024;
const MAX_WORD: usize = 128;

/// The fault of a worker that ended without a word. `said` is the last that it wrote to standard error.
pub(super) fn crash(status: Option<ExitStatus>, said: &str) -> Fault {
    let how = match status {
        None => "the worker closed its socket; it was killed".to_owned(),
        Some(status) => describe(status),
    };
    let said = clip(said.trim(), MAX_TEXT / 2);
    let message = if said.is_empty() { how } else { format!("{how}; its last words: {said}") };
    Fault::new(FaultCode::Crash, message)
}

fn describe(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        return match signal {
            6 => "the worker aborted (SIGABRT), most often for want of memory; raise `native_memory_mib`".into(),
            7 => "the worker was ended by SIGBUS: memory or disk is damaged or full".into(),
            9 => "the worker was killed (SIGKILL), most often by the kernel for want of memory; see the kernel's log, \
                  and lower `memory_mib`, `native_memory_mib` or the number of modules"
                .into(),
            11 => "the worker was ended by SIGSEGV: a fault in native code; report it with its module and model".into(),
            24 => "the worker was ended by SIGXCPU: it used up its processor time".into(),
            31 => "the worker was ended by SIGSYS: it made a system call that its confinement forbids; \
                   the module or a model may be malicious"
                .into(),
            signal => format!("the worker was ended by signal {signal}"),
        };
    }
    match status.code() {
        Some(code) => format!("the worker ended by itself with exit status {code}"),
        None => "the worker ended in a way that the kernel does not tell".into(),
    }
}

/// A fault as a worker tells it, with its texts bounded.
pub(super) fn bounded(mut fault: Fault) -> Fault {
    fault.message = clip(&fault.message, MAX_TEXT);
    fault.trap = fault.trap.map(|trap| clip(&trap, MAX_WORD));
    fault.export = fault.export.map(|export| clip(&export, MAX_WORD));
    fault
}

/// The text without control characters, cut to `most` bytes.
pub(super) fn clip(text: &str, most: usize) -> String {
    let mut clipped = String::with_capacity(text.len().min(most));
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if clipped.len() + character.len_utf8() > most {
            break;
        }
        clipped.push(character);
    }
    clipped
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_signals_and_what_to_do() {
        let fault = crash(Some(ExitStatus::from_raw(9)), "");
        assert_eq!(fault.code, FaultCode::Crash);
        assert!(fault.message.contains("SIGKILL") && fault.message.contains("memory"), "{fault}");
        assert!(crash(Some(ExitStatus::from_raw(31)), "").message.contains("SIGSYS"));
        assert!(crash(Some(ExitStatus::from_raw(2)), "").message.contains("signal 2"));
    }

    #[test]
    fn tells_the_exit_status_and_the_last_words() {
        let fault = crash(Some(ExitStatus::from_raw(101 << 8)), "panicked\nat x\n");
        assert!(fault.message.ends_with("exit status 101; its last words: panicked at x"), "{fault}");
    }

    #[test]
    fn bounds_what_a_worker_tells() {
        let mut fault = Fault::new(FaultCode::Trap, "ä".repeat(5000));
        fault.trap = Some("\u{1b}[31m".repeat(500));
        let fault = bounded(fault);
        assert_eq!(fault.message.len(), MAX_TEXT);
        assert_eq!(fault.trap.as_ref().unwrap().len(), MAX_WORD);
        assert!(!fault.trap.unwrap().contains('\u{1b}'));
    }
}
