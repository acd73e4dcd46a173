//! Holding what the gateway says of each image to the images' labels.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};

use super::observer::Detection;
use crate::home;

/// The images in the order in which the sensor replays them, with their labels, and what was said of each.
pub(super) struct ScoreCard {
    images: Vec<(String, bool)>,
    said: BTreeMap<usize, (f64, bool)>,
}

impl ScoreCard {
    /// Reads `labels.csv`: `file,label,…`, where label 1 is a defect.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("labels.csv");
        let mut images = Vec::new();
        for line in home::read_text(&file)?.lines().skip(1) {
            let mut fields = line.split(',');
            let (Some(name), Some(label @ ("0" | "1"))) = (fields.next(), fields.next()) else {
                bail!("{}: {line:?} is not `file,label,…`", file.display());
            };
            images.push((name.to_owned(), label == "1"));
        }
        if images.is_empty() {
            bail!("{} lists no images", file.display());
        }
        images.sort();
        Ok(Self { images, said: BTreeMap::new() })
    }

    /// Takes what was said of a frame.
    pub(super) fn take(&mut self, detection: &Detection) {
        if let Some(place) = self.place(detection) {
            self.said.insert(place, (detection.score, detection.defect));
        }
    }

    /// What was said of an image, beside its label.
    pub(super) fn describe(&self, detection: &Detection) -> String {
        let image = self.place(detection).and_then(|place| self.images.get(place));
        let (name, defect) = image.map_or(("?", false), |(name, defect)| (name, *defect));
        let label = if defect { "a defect" } else { "good" };
        format!("{name}, labelled {label}: score {:.3}", detection.score)
    }

    /// The sensor counts its frames from 1 and starts over after the last image.
    fn place(&self, detection: &Detection) -> Option<usize> {
        Some(usize::try_from(detection.seq.checked_sub(1)?).ok()? % self.images.len())
    }

    /// How many images something was said of.
    pub(super) fn seen(&self) -> usize {
        self.said.len()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.images.len()
    }

    /// The quality over all images.
    pub(super) fn quality(&self) -> Result<Quality> {
        let judged = || self.images.iter().zip(self.said.values()).map(|((_, is), (score, says))| (*is, *score, *says));
        if self.seen() != self.count() {
            bail!("{} of {} images were scored", self.seen(), self.count());
        }
        let count = |is: bool, says: bool| judged().filter(|(i, _, s)| (*i, *s) == (is, says)).count() as f64;
        let (hits, false_alarms, misses) = (count(true, true), count(false, true), count(true, false));
        let scores = |is: bool| judged().filter(|(i, ..)| *i == is).map(|(_, score, _)| score).collect::<Vec<_>>();
        Ok(Quality {
            precision: hits / (hits + false_alarms),
            recall: hits / (hits + misses),
            auc: auc(&scores(true), &scores(false)).context("both defective and good images are needed")?,
        })
    }
}

/// Figures of merit on labelled images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    /// Of what was called a defect, the part that is one.
    pub(super) precision: f64,
    /// Of the defects, the part that was found.
    pub(super) recall: f64,
    /// The chance that a defect scores higher than a good surface (area under the ROC curve, by the Mann-Whitney statistic).
    pub(super) auc: f64,
}

fn auc(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    let pairs = positives.iter().flat_map(|positive| negatives.iter().map(move |negative| (positive, negative)));
    let wins: f64 = pairs
        .map(|(p, n)| {
            if p > n {
                1.0
            } else if p == n {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    let pairs = positives.len() * negatives.len();
    (pairs > 0).then(|| wins / pairs as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn card(labels: &str) -> (tempfile::TempDir, ScoreCard) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("labels.csv"), labels).unwrap();
        let card = ScoreCard::read(folder.path()).unwrap();
        (folder, card)
    }

    #[test]
    fn judges_by_place_and_wraps_around() {
        let (_folder, mut card) = card("file,label\na.png,1\nb.png,0\nc.png,1\nd.png,0\n");
        for (seq, score, defect) in [(1, 0.9, true), (2, 0.6, true), (7, 0.2, false), (8, 0.1, false)] {
            card.take(&Detection { seq, score, defect });
        }
        let quality = card.quality().unwrap();
        assert_eq!((quality.precision, quality.recall, quality.auc), (0.5, 0.5, 0.75));
    }

    #[test]
    fn refuses_to_judge_before_every_image_was_seen() {
        let (_folder, mut card) = card("file,label\na.png,1\nb.png,0\n");
        card.take(&Detection { seq: 3, score: 0.9, defect: true });
        assert!(card.quality().is_err());
    }
}
