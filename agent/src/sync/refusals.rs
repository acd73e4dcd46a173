//! What was refused lately, for the reported state.
//!
//! Bounded to [`MOST`] entries; the same refusal twice is one entry, so that a hostile broker that repeats itself neither
//! fills the list nor floods the events.

use std::collections::VecDeque;

use sanderling_protocol::{digest::Digest, reported::Refused};

/// The most entries that are kept; the oldest goes first.
pub(super) const MOST: usize = 16;
/// A reason is cut to this many bytes: parts of it may come from outside.
const LONGEST: usize = 512;

/// The list, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusals {
    list: VecDeque<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    refused: Refused,
    passing: bool,
}

impl Refusals {
    /// Notes a refusal. Gives it back if it is new, so that it becomes an event.
    pub(super) fn refuse(
        &mut self,
        what: impl Into<String>,
        digest: Option<Digest>,
        why: impl ToString,
    ) -> Option<Refused> {
        self.note(what.into(), digest, why.to_string(), false)
    }

    /// Notes that something is missing. The note goes when [`Refusals::came`] is told of it.
    pub(super) fn missing(&mut self, what: impl Into<String>, why: impl ToString) -> Option<Refused> {
        self.note(what.into(), None, why.to_string(), true)
    }

    /// What was missing has come.
    pub(super) fn came(&mut self, what: &str) {
        self.list.retain(|entry| !(entry.passing && entry.refused.what == what));
    }

    /// Nothing is missed any more.
    pub(super) fn nothing_missing(&mut self) {
        self.list.retain(|entry| !entry.passing);
    }

    /// The refusals, oldest first.
    pub(super) fn list(&self) -> impl Iterator<Item = &Refused> {
        self.list.iter().map(|entry| &entry.refused)
    }

    fn note(&mut self, what: String, digest: Option<Digest>, why: String, passing: bool) -> Option<Refused> {
        let refused = Refused { what, digest, why: cut(why) };
        if self.list.iter().any(|entry| entry.refused == refused) {
            return None;
        }
        if passing {
            self.came(&refused.what);
        }
        while self.list.len() >= MOST {
            self.list.pop_front();
        }
        self.list.push_back(Entry { refused: refused.clone(), passing });
        Some(refused)
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_twice_is_one() {
        let mut refusals = Refusals::default();
        assert!(refusals.refuse("repo/timestamp", None, "not signed").is_some());
        assert!(refusals.refuse("repo/timestamp", None, "not signed").is_none());
        assert!(refusals.refuse("repo/timestamp", None, "expired").is_some());
        assert_eq!(refusals.list().count(), 2);
    }

    #[test]
    fn the_list_is_bounded_and_keeps_the_newest() {
        let mut refusals = Refusals::default();
        for number in 0..40 {
            refusals.refuse(format!("chunk/{number}"), None, "wrong");
        }
        let kept: Vec<_> = refusals.list().map(|refused| refused.what.clone()).collect();
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept.last().map(String::as_str), Some("chunk/39"));
    }

    #[test]
    fn what_was_missing_is_no_longer_listed_when_it_came() {
        let mut refusals = Refusals::default();
        refusals.missing("chunk/1", "asked 1 time");
        refusals.missing("chunk/1", "asked 2 times");
        assert_eq!(refusals.list().count(), 1);
        refusals.refuse("chunk/1", None, "wrong");
        refusals.came("chunk/1");
        assert_eq!(refusals.list().map(|refused| refused.why.as_str()).collect::<Vec<_>>(), ["wrong"]);
    }

    #[test]
    fn a_reason_is_bounded_and_stays_text() {
        let mut refusals = Refusals::default();
        let refused = refusals.refuse("x", None, "ü".repeat(4000));
        assert!(refused.is_some_and(|refused| refused.why.len() <= LONGEST + 3));
    }
}
