//! The lines of the machine's gpiochip, a PL061, from outside: QEMU's protocol for tests sets those that are inputs and tells of those
//! that the guest sets.

use std::time::Duration;

use crate::lines::Lines;

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// What is connected to the chip.
pub(crate) struct Board {
    test: Lines,
    chip: String,
    heard: Vec<Level>,
}

/// A line that the guest has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Its offset on the chip.
    pub(crate) line: u32,
    /// Whether it is high now.
    pub(crate) high: bool,
}

impl Board {
    /// Connects to the chip of this name among QEMU's objects.
    pub(crate) fn new(test: Lines, chip: &str) -> Self {
        let mut board = Self { test, chip: chip.to_owned(), heard: Vec::new() };
        board.say(&format!("irq_intercept_out {chip}"));
        board
    }

    /// Sets a line that is an input of the guest.
    pub(crate) fn set(&mut self, line: u32, high: bool) {
        self.say(&format!("set_irq_in {} unnamed-gpio-in {line} {}", self.chip, u8::from(high)));
    }

    /// The next line that the guest sets; `None` when the limit is over.
    pub(crate) fn next(&mut self, limit: Duration) -> Option<Level> {
        if self.heard.is_empty() {
            let line = self.test.next(limit)?;
            self.heard.extend(Level::read(&line));
        }
        (!self.heard.is_empty()).then(|| self.heard.remove(0))
    }

    fn say(&mut self, command: &str) {
        self.test.send(command);
        loop {
            let answer = self.test.next(ANSWER).unwrap_or_else(|| panic!("QEMU does not answer to {command}"));
            match Level::read(&answer) {
                Some(level) => self.heard.push(level),
                None if answer.starts_with("OK") => return,
                None => panic!("{command}: {answer}"),
            }
        }
    }
}

impl Level {
    /// `IRQ raise 2`
    fn read(line: &str) -> Option<Self> {
        let (what, number) = line.strip_prefix("IRQ ")?.split_once(' ')?;
        Some(Self { line: number.parse().ok()?, high: what == "raise" })
    }
}
