//! What was measured, as a table or as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cuts::Cut;

/// What was measured, in the order of the story.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: Vec<(String, Value, &'static str)>,
    cuts: Vec<Cut>,
}

impl Figures {
    /// Adds a figure with its unit.
    pub(crate) fn add(&mut self, what: &str, value: impl Into<Value>, unit: &'static str) {
        self.rows.push((what.to_owned(), value.into(), unit));
    }

    /// Adds a time.
    pub(crate) fn time(&mut self, what: &str, time: Duration) {
        self.add(what, seconds(time), "s");
    }

    /// Adds what became of the power cuts.
    pub(crate) fn cuts(&mut self, cuts: Vec<Cut>) {
        self.cuts = cuts;
    }

    /// Prints them.
    pub(crate) fn show(&self, as_json: bool) {
        if as_json {
            let figures =
                self.rows.iter().map(|(what, value, unit)| (what.clone(), json!({ "value": value, "unit": unit })));
            let cuts: Vec<Value> = self.cuts.iter().map(Cut::to_json).collect();
            println!("{}", json!({ "figures": figures.collect::<Map<_, _>>(), "cuts": cuts }));
            return;
        }
        println!("| figure | |\n|---|---|");
        for (what, value, unit) in &self.rows {
            println!("| {what} | {} {unit} |", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        if !self.cuts.is_empty() {
            Cut::show(&self.cuts);
        }
    }
}

/// Seconds with one digit after the point.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
