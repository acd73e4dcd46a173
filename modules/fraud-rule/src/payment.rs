//! A payment, as a frame holds it.

use serde::Deserialize;

/// Texts of a payment are at most this long, in bytes.
const MAX_TEXT: usize = 128;
const SECONDS_A_DAY: i64 = 86_400;

/// One payment. Fields that are not listed here are no concern of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Payment {
    /// What the verdict refers to.
    pub id: String,
    /// The amount in the currency's smallest unit, such as cents.
    pub amount: u64,
    /// The currency, as in ISO 4217.
    pub currency: String,
    /// Where it is paid, as in ISO 3166-1 alpha-2.
    pub country: String,
    /// Who is paid.
    pub merchant: String,
    /// What the merchant sells, as in ISO 18245.
    #[serde(default)]
    pub category: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who pays, such as a token for the card; without it nothing is known of how often.
    #[serde(default)]
    pub account: String,
    /// Payments of the account within the window of the rule `velocity`, this one included; 0 where they are not counted.
    #[serde(skip)]
    pub(crate) recent: usize,
}

impl Payment {
    /// Reads the JSON of a frame.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let payment: Self = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let Self { id, currency, country, merchant, category, account, .. } = &payment;
        if [id, currency, country, merchant, category, account].into_iter().any(|text| text.len() > MAX_TEXT) {
            return Err(format!("a text in it has more than {MAX_TEXT} bytes"));
        }
        Ok(payment)
    }

    /// The hour of the day, 0 to 23, where clocks are so many minutes ahead of UTC.
    pub(crate) fn hour(&self, utc_offset_min: i32) -> u8 {
        let local = self.at.saturating_add(i64::from(utc_offset_min) * 60);
        u8::try_from(local.rem_euclid(SECONDS_A_DAY) / 3600).unwrap_or(0)
    }
}
