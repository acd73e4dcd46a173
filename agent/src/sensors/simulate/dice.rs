//! Numbers that look random and are a function of where they are asked for.

/// The number at `index` of the sequence `key`: SplitMix64.
pub(super) fn dice(key: u64, index: u64) -> u64 {
    let mut z = key.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number from 0 up to, but not including, 1.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number between `low` and `high`.
pub(super) fn within(bits: u64, low: f64, high: f64) -> f64 {
    low + unit(bits) * (high - low)
}

/// A number that is about normally distributed: mean 0, standard deviation 1, never beyond 3.5.
pub(super) fn normal(bits: u64) -> f64 {
    let sum: u32 = (0..4).map(|part| (bits >> (16 * part)) as u32 & 0xffff).sum();
    (f64::from(sum) / 65536.0 - 2.0) * 3.0_f64.sqrt()
}

/// The sine of a number of turns. A polynomial of our own, since libraries round the last digit as they like.
pub(super) fn sine(turns: f64) -> f64 {
    // To -1/4 … 1/4 turn, where the sine is odd and monotonic.
    let turn = turns - turns.floor();
    let turn = if turn > 0.75 {
        turn - 1.0
    } else if turn > 0.25 {
        0.5 - turn
    } else {
        turn
    };
    let x = turn * std::f64::consts::TAU;
    let square = x * x;
    let mut sum = 0.0;
    for factor in [156.0, 110.0, 72.0, 42.0, 20.0, 6.0] {
        sum = square / factor * (1.0 - sum);
    }
    x * (1.0 - sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_right_to_nine_digits() {
        for step in -4000..4000 {
            let turns = f64::from(step) / 997.0;
            let difference = sine(turns) - (turns * std::f64::consts::TAU).sin();
            assert!(difference.abs() < 1e-9, "{turns}: {difference}");
        }
    }

    #[test]
    fn noise_has_mean_zero_and_deviation_one() {
        let values: Vec<f64> = (0..100_000).map(|index| normal(dice(7, index))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
