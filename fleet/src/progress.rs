//! A progress bar for what takes more than two seconds; on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Stopwatch;

const PATIENCE: Duration = Duration::from_secs(2);

/// How far something is, in bytes.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Stopwatch,
    shown: bool,
}

impl Progress {
    /// Of so many bytes; `what` is a word for it.
    pub(crate) fn new(what: &'static str, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden()).with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32} {bytes}/{total_bytes} {eta}") {
            bar.set_style(style);
        }
        Self { bar, began: Stopwatch::start(), shown: false }
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, bytes: u64) {
        if !self.shown && self.began.elapsed() > PATIENCE {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
