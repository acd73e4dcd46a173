#![allow(clippy::unwrap_used)]

use proptest::{collection::vec, prelude::*};
use sanderling_guest::image::Filter;

use super::{
    super::axis::{Sampling, Weights},
    *,
};

fn weights(len: usize, out: usize, filter: Filter, fill: usize) -> Weights {
    match Sampling::new(filter, (0, len), 1, out, fill) {
        Sampling::Weighed(weights) => weights,
        other => unreachable!("{other:?}"),
    }
}

/// With something behind the point.
fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes
        .iter()
        .map(|byte| (i16::from(*byte) << FRACTION) + i16::from(*byte % 7))
        .map(|it| it.min(255 << FRACTION))
        .collect()
}

#[test]
fn red_green_and_blue_are_exact_for_every_luma_and_chroma() {
    let vector = Vector::detect();
    let clamp = |value: i32| u8::try_from((value >> 8).clamp(0, 255)).unwrap();
    for u in 0..=255_u8 {
        for v in 0..=255_u8 {
            let (mut red, mut green, mut blue) = ((0..=255).collect::<Vec<u8>>(), vec![u; 256], vec![v; 256]);
            vector.rgb(&mut red, &mut green, &mut blue);
            for (luma, ((r, g), b)) in (0..256).zip(red.into_iter().zip(green).zip(blue)) {
                let (y, u, v) = (298 * (luma - 16) + 128, i32::from(u) - 128, i32::from(v) - 128);
                assert_eq!([r, g, b], [y + 409 * v, y - 100 * u - 208 * v, y + 516 * u].map(clamp), "{luma} {u} {v}");
            }
        }
    }
}

proptest! {
    #[test]
    fn sums_of_rows_are_the_same_with_and_without_vectors(
        bytes in vec(any::<u8>(), 4000),
        (width, gap, rows, out) in (1_usize..150, 0_usize..9, 1_usize..25, 1_usize..25),
    ) {
        prop_assume!(rows != out);
        let stride = width + gap;
        let weights = weights(rows, out, Filter::Bilinear, PAIR);
        // No more than there is: windows are filled up behind the last row.
        let bytes = &bytes[..stride * (rows - 1) + width];
        for at in 0..out {
            let (first, window) = weights.window(at);
            let mut both = [vec![1; width], vec![2; width]];
            let [plain, fast] = &mut both;
            Vector::Plain.blend(&bytes[first * stride..], stride, (window, weights.precision), plain);
            Vector::detect().blend(&bytes[first * stride..], stride, (window, weights.precision), fast);
            prop_assert_eq!(plain, fast);
        }
    }

    #[test]
    fn sums_within_a_row_are_the_same_with_and_without_vectors(
        bytes in vec(any::<u8>(), 4000),
        (len, out) in (1_usize..600, 1_usize..100),
    ) {
        prop_assume!(len != out);
        let weights = weights(len, out, Filter::Bilinear, FILL);
        let row = &samples(&bytes)[..len + weights.taps];
        let mut both = [vec![1; out], vec![2; out]];
        let [plain, fast] = &mut both;
        Vector::Plain.dots(row, &weights, plain);
        Vector::detect().dots(row, &weights, fast);
        prop_assert_eq!(plain, fast);
    }

    #[test]
    fn groups_of_three_are_split_the_same_with_and_without_vectors(bytes in vec(any::<u8>(), 3..900)) {
        let row = samples(&bytes);
        let groups = bytes.len() / 3;
        for vector in [Vector::Plain, Vector::detect()] {
            let mut out = [vec![0; groups], vec![0; groups], vec![0; groups]];
            vector.split(&row, out.each_mut().map(Vec::as_mut_slice));
            for (offset, out) in out.iter().enumerate() {
                let wanted: Vec<i16> = (0..groups).map(|at| row[at * 3 + offset]).collect();
                prop_assert_eq!(out, &wanted);
            }
        }
    }

    #[test]
    fn samples_are_picked_the_same_with_and_without_vectors(
        bytes in vec(any::<u8>(), 1..400),
        (step, offset) in (1_usize..5).prop_flat_map(|step| (Just(step), 0..step)),
    ) {
        let groups = bytes.len() / step;
        let row = samples(&bytes);
        let wanted: Vec<i16> = (0..groups).map(|at| row[at * step + offset]).collect();
        for vector in [Vector::Plain, Vector::detect()] {
            let mut out = vec![0; groups];
            vector.pick(&row, step, offset, &mut out);
            prop_assert_eq!(&out, &wanted);
        }
    }

    #[test]
    fn bytes_become_samples_and_samples_the_nearest_bytes(bytes in vec(any::<u8>(), 0..200)) {
        for vector in [Vector::Plain, Vector::detect()] {
            let (mut row, mut back) = (vec![0; bytes.len()], vec![1; bytes.len()]);
            vector.widen(&bytes, &mut row);
            row.iter_mut().zip(&bytes).for_each(|(sample, byte)| *sample += i16::from(byte % 8) - 4);
            vector.round(&row, &mut back);
            prop_assert_eq!(&back, &bytes);
        }
    }
}
