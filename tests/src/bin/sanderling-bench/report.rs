//! A row, its budget, and how both are printed.

use serde_json::{Value, json};

/// What a row is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// Ours over the reference, at most.
    RatioAtMost(f64),
    /// Ours over the reference, at least.
    RatioAtLeast(f64),
    /// At most this, in the row's unit.
    AtMost(f64),
    /// At least this, in the row's unit.
    AtLeast(f64),
    /// Shown for comparison alone.
    None,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its name, for `--only`.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) what: String,
    /// The unit of ours and of the reference.
    pub(crate) unit: &'static str,
    /// Our figure.
    pub(crate) ours: f64,
    /// What was measured beside it, and its figure.
    pub(crate) reference: Option<(&'static str, f64)>,
    /// Ours over the reference: the median of the ratios, where both were measured in turn.
    pub(crate) ratio: Option<f64>,
    /// What it is held to.
    pub(crate) budget: Budget,
}

impl Row {
    /// A row without a reference.
    pub(crate) fn new(name: &'static str, what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { name, what: what.into(), unit, ours, reference: None, ratio: None, budget: Budget::None }
    }

    /// Sets the reference; the ratio is that of the two figures.
    pub(crate) fn beside(self, name: &'static str, figure: f64) -> Self {
        Self { reference: Some((name, figure)), ratio: Some(self.ours / figure), ..self }
    }

    /// Sets the ratio.
    pub(crate) fn ratio(self, ratio: f64) -> Self {
        Self { ratio: Some(ratio), ..self }
    }

    /// Sets the budget.
    pub(crate) fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    fn met(&self) -> Option<bool> {
        match self.budget {
            Budget::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Budget::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
            Budget::AtMost(most) => Some(self.ours <= most),
            Budget::AtLeast(least) => Some(self.ours >= least),
            Budget::None => None,
        }
    }

    fn budget(&self) -> String {
        match self.budget {
            Budget::RatioAtMost(most) => format!("at most {most}x"),
            Budget::RatioAtLeast(least) => format!("at least {least}x"),
            Budget::AtMost(most) => format!("at most {} {}", number(most), self.unit),
            Budget::AtLeast(least) => format!("at least {} {}", number(least), self.unit),
            Budget::None => String::new(),
        }
    }

    /// The row for a machine.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "row": self.name, "what": self.what, "unit": self.unit, "ours": self.ours,
            "reference": self.reference.map(|(name, figure)| json!({ "what": name, "figure": figure })),
            "ratio": self.ratio, "budget": self.budget(), "met": self.met(),
        })
    }
}

/// Prints rows as they come.
#[derive(Debug)]
pub(crate) struct Table {
    json: bool,
    rows: usize,
    behind: Vec<String>,
}

impl Table {
    /// For people, or one JSON object a row.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, rows: 0, behind: vec![] }
    }

    /// Prints a row.
    pub(crate) fn show(&mut self, row: &Value) {
        if self.json {
            println!("{row}");
            return;
        }
        if self.rows == 0 {
            println!("| row | what | ours | beside it | ratio | budget | |");
            println!("|---|---|---|---|---|---|---|");
        }
        self.rows += 1;
        let text = |field: &str| row[field].as_str().unwrap_or_default();
        let figure = |value: &Value| format!("{} {}", number(value.as_f64().unwrap_or(f64::NAN)), text("unit"));
        let reference = &row["reference"];
        let beside = match reference["what"].as_str() {
            Some(what) => format!("{what}: {}", figure(&reference["figure"])),
            None => String::new(),
        };
        let ratio = row["ratio"].as_f64().map_or_else(String::new, |ratio| format!("{}x", number(ratio)));
        let met = match row["met"].as_bool() {
            Some(true) => "met",
            Some(false) => "**behind**",
            None => "",
        };
        if row["met"] == false {
            self.behind.push(text("row").to_owned());
        }
        let (name, what, ours, budget) = (text("row"), text("what"), figure(&row["ours"]), text("budget"));
        println!("| {name} | {what} | {ours} | {beside} | {ratio} | {budget} | {met} |");
    }

    /// Says how it went.
    pub(crate) fn end(&self) {
        if !self.json {
            println!();
            match self.behind.len() {
                0 => println!("{} rows, none behind its budget.", self.rows),
                behind => println!("{} rows, {behind} behind: {}.", self.rows, self.behind.join(", ")),
            }
        }
    }
}

/// Three digits that count, and thousands whole.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
