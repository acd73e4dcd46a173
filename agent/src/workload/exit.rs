//! Tells in words how a worker process ended.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use sanderling_protocol::worker::{Fault, FaultCode, Measure, Ready};

/// Text that a worker sends for people is cut to this length, in bytes.
const MAX_TEXT: usize = 1024;
const MAX_WORD: usize = 128;

/// How a process ends that aborts (`SIGABRT`), as one does that gets no memory.
const ABORTED: i32 = 6;

/// The fault of a worker that ended without a word. `said` is the last that it wrote to standard error, `refused` the size of an
/// allocation that it was refused in its last call.
pub(super) fn crash(status: Option<ExitStatus>, said: &str, refused: Option<u64>) -> Fault {
    if let Some(bytes) = refused.filter(|_| status.is_some_and(|status| status.signal() == Some(ABORTED))) {
        return Fault::new(
            FaultCode::NativeMemory,
            format!(
                "native work (a model, an image) needed more memory than `native_memory_mib` gives, and the worker aborted when {bytes} \
                 more bytes were refused; raise it, or use a smaller model"
            ),
        );
    }
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
    // Not for the worker to say.
    (fault.module, fault.capsule) = (None, None);
    fault
}

/// What a worker tells when it is ready, with its list and texts bounded.
pub(super) fn bounded_ready(mut ready: Ready) -> Ready {
    ready.unconfined.truncate(Measure::ALL.len());
    for missing in &mut ready.unconfined {
        missing.why = clip(&missing.why, MAX_WORD);
    }
    ready
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
    use sanderling_protocol::worker::Missing;

    use super::*;

    #[test]
    fn names_signals_and_what_to_do() {
        let fault = crash(Some(ExitStatus::from_raw(9)), "", None);
        assert_eq!(fault.code, FaultCode::Crash);
        assert!(fault.message.contains("SIGKILL") && fault.message.contains("memory"), "{fault}");
        assert!(crash(Some(ExitStatus::from_raw(31)), "", None).message.contains("SIGSYS"));
        assert!(crash(Some(ExitStatus::from_raw(2)), "", None).message.contains("signal 2"));
    }

    #[test]
    fn an_abort_after_a_refused_allocation_is_want_of_native_memory_and_no_other_end_is() {
        let end = |raw, refused| crash(Some(ExitStatus::from_raw(raw)), "memory allocation failed", refused);
        let fault = end(6, Some(4096));
        assert_eq!(fault.code, FaultCode::NativeMemory);
        assert!(fault.message.contains("native_memory_mib") && fault.message.contains("4096"), "{fault}");
        assert_eq!(end(6, None).code, FaultCode::Crash);
        assert_eq!(end(9, Some(4096)).code, FaultCode::Crash, "killed from outside");
        assert_eq!(crash(None, "", Some(4096)).code, FaultCode::Crash);
    }

    #[test]
    fn tells_the_exit_status_and_the_last_words() {
        let fault = crash(Some(ExitStatus::from_raw(101 << 8)), "panicked\nat x\n", None);
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
        let missing = Missing { measure: Measure::Files, why: "x".repeat(5000) };
        let ready = bounded_ready(Ready { unconfined: vec![missing; 5000], ..Ready::default() });
        assert_eq!((ready.unconfined.len(), ready.unconfined[0].why.len()), (Measure::ALL.len(), MAX_WORD));
    }
}
