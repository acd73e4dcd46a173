//! What the deployment says in `config`. A rule that is not configured adds nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU8, NonZeroU32},
};

use serde::Deserialize;

use crate::Verdict;

/// All rules, and where the score becomes a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// From this score on somebody should look at the payment.
    pub review: u32,
    /// From this score on it should not go on.
    pub decline: u32,
    /// Amounts, by currency; of several that are exceeded, the one with the highest score counts.
    pub amounts: BTreeMap<String, Vec<Amount>>,
    /// What an amount in a currency without an entry in `amounts` adds.
    pub other_currency: u32,
    /// Countries.
    pub countries: Countries,
    /// Hours of the day.
    pub hours: Option<Hours>,
    /// What payments to these merchants add.
    pub merchants: BTreeMap<String, u32>,
    /// What payments to merchants of these categories add.
    pub categories: BTreeMap<String, u32>,
    /// How often an account may pay; takes the grant `state:<bytes>`.
    pub velocity: Option<Velocity>,
}

/// An amount that should not be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// In the currency's smallest unit.
    pub over: u64,
    /// What exceeding it adds.
    pub score: u32,
}

/// Where payments are expected, and where they are not wanted at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Countries {
    /// Where payments are expected; empty for everywhere.
    pub home: BTreeSet<String>,
    /// What a payment from elsewhere adds.
    pub elsewhere: u32,
    /// Payments from here are declined whatever their score.
    pub blocked: BTreeSet<String>,
}

/// Hours in which payments are unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The first of them, 0 to 23.
    pub from: u8,
    /// The first that is none of them any more; less than `from` for a span across midnight.
    pub to: u8,
    /// How many minutes clocks are ahead of UTC.
    #[serde(default)]
    pub utc_offset_min: i32,
    /// What a payment within them adds.
    pub score: u32,
}

/// A number of payments that an account should not exceed in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Velocity {
    /// So many are usual …
    pub payments: NonZeroU8,
    /// … within so many seconds, by the time that payments say.
    pub window_s: NonZeroU32,
    /// What each further one adds.
    pub score: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            review: 50,
            decline: 100,
            amounts: BTreeMap::new(),
            other_currency: 0,
            countries: Countries::default(),
            hours: None,
            merchants: BTreeMap::new(),
            categories: BTreeMap::new(),
            velocity: None,
        }
    }
}

impl Config {
    /// The verdict that a score makes.
    pub(crate) fn verdict(&self, score: u32) -> Verdict {
        match score {
            score if score >= self.decline => Verdict::Decline,
            score if score >= self.review => Verdict::Review,
            _ => Verdict::Accept,
        }
    }
}

impl Hours {
    /// Whether an hour of the day is one of them.
    pub(crate) fn contain(&self, hour: u8) -> bool {
        if self.from <= self.to { (self.from..self.to).contains(&hour) } else { hour >= self.from || hour < self.to }
    }
}
