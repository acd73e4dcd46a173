//! The rules, each a function from a payment to what it adds to the score.

use crate::{Config, Payment};

type Rule = fn(&Config, &Payment) -> u32;

/// All rules, by the name that a verdict shows.
const RULES: [(&str, Rule); 7] = [
    ("amount", amount),
    ("blocked_country", blocked_country),
    ("country", country),
    ("hour", hour),
    ("merchant", merchant),
    ("category", category),
    ("velocity", velocity),
];

/// The score of a payment, and the rules that made it.
pub(crate) fn judge(config: &Config, payment: &Payment) -> (u32, Vec<&'static str>) {
    let met = RULES.iter().map(|(name, rule)| (*name, rule(config, payment))).filter(|(_, score)| *score > 0);
    met.fold((0, Vec::new()), |(total, mut names), (name, score)| {
        names.push(name);
        (total.saturating_add(score), names)
    })
}

fn amount(config: &Config, payment: &Payment) -> u32 {
    match config.amounts.get(&payment.currency) {
        Some(amounts) => {
            let exceeded = amounts.iter().filter(|amount| payment.amount > amount.over);
            exceeded.map(|amount| amount.score).max().unwrap_or(0)
        }
        None => config.other_currency,
    }
}

fn blocked_country(config: &Config, payment: &Payment) -> u32 {
    if config.countries.blocked.contains(&payment.country) { config.decline.max(1) } else { 0 }
}

fn country(config: &Config, payment: &Payment) -> u32 {
    let home = &config.countries.home;
    if home.is_empty() || home.contains(&payment.country) { 0 } else { config.countries.elsewhere }
}

fn hour(config: &Config, payment: &Payment) -> u32 {
    config.hours.filter(|hours| hours.contain(payment.hour(hours.utc_offset_min))).map_or(0, |hours| hours.score)
}

fn merchant(config: &Config, payment: &Payment) -> u32 {
    config.merchants.get(&payment.merchant).copied().unwrap_or(0)
}

fn category(config: &Config, payment: &Payment) -> u32 {
    config.categories.get(&payment.category).copied().unwrap_or(0)
}

fn velocity(config: &Config, payment: &Payment) -> u32 {
    config.velocity.filter(|rule| payment.recent > rule.payments.get().into()).map_or(0, |rule| rule.score)
}
