//! Watches a surface for scratches, dents, stains and holes.
//!
//! The host scales each image into the model's input, the model scores it and says where (`model/MODEL_CARD.md`), and this
//! guest decides: a frame is a defect from `threshold` upwards, and, once one was seen, until the score falls below `threshold -
//! hysteresis`, so that a score that wavers around the threshold makes one defect and not ten.
//!
//! On the channel `defects` it emits `{"seq", "score", "defect", "box": [x, y, width, height]}`, the box in pixels of the frame, and
//! null where no cell stands out. With `evidence` in its config and the grants `evidence` and `emit:evidence` it sends, when a defect begins, that box, or the
//! whole frame where there is none, as JPEG on the channel `evidence`.

use sanderling_guest::{
    errno,
    frame::FrameHeader,
    image::{Filter, ImageOp},
    sdk::{self, Errno, Fault, Frame, Guest, nn::Model},
};
use serde::{Deserialize, Serialize};

/// The model's input: gray pixels, `(pixel / 255 - 0.5) * 4`.
const INPUT: ImageOp = ImageOp { filter: Filter::Bilinear, mean: [0.5; 3], scale: [4.0; 3], ..ImageOp::gray(64, 64) };
/// The model's map of where a defect is has this many cells a side.
const CELLS: usize = 8;

/// What the deployment says in `config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name under which the deployment binds the model.
    model: String,
    /// A score from here on is a defect.
    threshold: f32,
    /// How far the score must fall below the threshold until a defect is over.
    hysteresis: f32,
    /// A cell of the map from here on belongs to the box.
    cell_threshold: f32,
    /// Whether frames without a defect are reported too, as for measuring a model.
    report_all: bool,
    /// The quality of the JPEG that is sent when a defect begins; none is sent without it.
    evidence: Option<u8>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: "defect".into(),
            threshold: 0.5,
            hysteresis: 0.0,
            cell_threshold: 0.5,
            report_all: false,
            evidence: None,
        }
    }
}

#[derive(Serialize)]
struct Record {
    seq: u64,
    score: f32,
    defect: bool,
    #[serde(rename = "box")]
    place: Option<[u32; 4]>,
}

/// The guest.
#[derive(Debug)]
pub struct SurfaceDefect {
    config: Config,
    model: Model,
    in_defect: bool,
}

impl Guest for SurfaceDefect {
    fn start() -> Result<Self, Fault> {
        let config: Config = sdk::config()?;
        let model = Model::load(&config.model)?;
        Ok(Self { config, model, in_defect: false })
    }

    fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        self.model.input_image(0, &INPUT)?;
        self.model.compute()?;
        let [score] = self.model.output_f32(0)?;
        let was_in_defect = self.in_defect;
        self.in_defect = score >= self.release_level();
        if self.in_defect || self.config.report_all {
            let place = place(&self.model.output_f32(1)?, self.config.cell_threshold, frame.header());
            let record = Record { seq: frame.header().seq, score, defect: self.in_defect, place };
            // A record above the rate is lost and counted by the host; the next frame may say the same.
            match sdk::emit_json("defects", &record) {
                Err(Errno(errno::EAGAIN)) => {}
                result => result?,
            }
            if self.in_defect && !was_in_defect {
                self.show(place.unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

impl SurfaceDefect {
    /// Sends a part of the frame, where that is configured.
    fn show(&self, place: [u32; 4]) -> Result<(), Fault> {
        let Some(quality) = self.config.evidence else { return Ok(()) };
        match sdk::emit_evidence("evidence", place, quality) {
            Err(Errno(errno::EAGAIN | errno::E2BIG)) => Ok(()),
            result => Ok(result.map(|_| ())?),
        }
    }

    fn release_level(&self) -> f32 {
        if self.in_defect { self.config.threshold - self.config.hysteresis } else { self.config.threshold }
    }
}

/// The rectangle around all cells from `threshold` upwards, in pixels of the frame.
fn place(cells: &[f32; CELLS * CELLS], threshold: f32, frame: &FrameHeader) -> Option<[u32; 4]> {
    let lit = cells.iter().enumerate().filter(|(_, value)| **value >= threshold);
    let (left, top, right, bottom) = lit.map(|(i, _)| (i % CELLS, i / CELLS)).fold(None, |bounds, (x, y)| {
        let (left, top, right, bottom) = bounds.unwrap_or((x, y, x, y));
        Some((x.min(left), y.min(top), x.max(right), y.max(bottom)))
    })?;
    let scale = |cell: usize, side: u32| (cell as u64 * u64::from(side) / CELLS as u64) as u32;
    let (x, y) = (scale(left, frame.width), scale(top, frame.height));
    Some([x, y, scale(right + 1, frame.width) - x, scale(bottom + 1, frame.height) - y])
}

sanderling_guest::guest!(SurfaceDefect);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_guest::{
        frame::Kind,
        sdk::{Level, Slot, testing::Host},
    };
    use serde_json::{Value, json};

    fn outputs(score: f32, lit: &[usize]) -> Vec<Vec<u8>> {
        let mut cells = [0f32; CELLS * CELLS];
        for cell in lit {
            cells[*cell] = 0.9;
        }
        vec![score.to_le_bytes().to_vec(), cells.map(f32::to_le_bytes).as_flattened().to_vec()]
    }

    fn look(host: &mut Host, guest: &Slot<SurfaceDefect>, score: f32, lit: &[usize]) -> Option<Value> {
        host.model("defect", outputs(score, lit));
        let header = FrameHeader { seq: 7, width: 128, height: 64, ..FrameHeader::new("cam0", 0) };
        host.frame(guest, header, &[]).unwrap();
        let emitted = host.emitted();
        emitted.first().map(|(channel, record)| {
            assert_eq!(channel, "defects");
            serde_json::from_slice(record).unwrap()
        })
    }

    fn start(config: &str) -> (Host, Slot<SurfaceDefect>) {
        let mut host = Host::new(config);
        host.model("defect", outputs(0.0, &[]));
        let guest = host.start().unwrap();
        (host, guest)
    }

    #[test]
    fn emits_defects_with_score_and_box_in_pixels() {
        let (mut host, guest) = start(r#"{"threshold": 0.5}"#);
        assert_eq!(look(&mut host, &guest, 0.4, &[9]), None);
        let record = look(&mut host, &guest, 0.75, &[9, 18]).unwrap();
        assert_eq!(record, json!({"seq": 7, "score": 0.75, "defect": true, "box": [16, 8, 32, 16]}));
    }

    #[test]
    fn holds_a_defect_until_the_score_falls_below_the_hysteresis() {
        let (mut host, guest) = start(r#"{"threshold": 0.5, "hysteresis": 0.2}"#);
        assert!(look(&mut host, &guest, 0.4, &[]).is_none());
        assert!(look(&mut host, &guest, 0.6, &[]).is_some());
        assert!(look(&mut host, &guest, 0.4, &[]).is_some());
        assert!(look(&mut host, &guest, 0.2, &[]).is_none());
        assert!(look(&mut host, &guest, 0.4, &[]).is_none());
    }

    #[test]
    fn shows_where_a_defect_begins_when_asked() {
        let rects = |config: &str| -> Vec<[u32; 4]> {
            let (mut host, guest) = start(config);
            for (score, lit) in [(0.4, &[9][..]), (0.75, &[9, 18]), (0.75, &[9]), (0.4, &[]), (0.9, &[])] {
                host.model("defect", outputs(score, lit));
                let header = FrameHeader { kind: Kind::Image, width: 128, height: 64, ..FrameHeader::new("cam0", 0) };
                host.frame(&guest, header, &[]).unwrap();
            }
            host.evidence().into_iter().map(|evidence| evidence.rect).collect()
        };
        assert_eq!(rects(r#"{"evidence": 70}"#), [[16, 8, 32, 16], [0; 4]]);
        assert!(rects("{}").is_empty());
    }

    #[test]
    fn reports_every_frame_when_asked() {
        let (mut host, guest) = start(r#"{"report_all": true}"#);
        let record = look(&mut host, &guest, 0.125, &[]).unwrap();
        assert_eq!(record, json!({"seq": 7, "score": 0.125, "defect": false, "box": null}));
    }

    #[test]
    fn a_wrong_config_is_named_in_the_log() {
        let mut host = Host::new(r#"{"treshold": 0.5}"#);
        assert_eq!(host.start::<SurfaceDefect>().err(), Some(Fault::CONFIG));
        assert!(host.logged(Level::Error)[0].contains("treshold"));
    }

    #[test]
    fn starts_with_defaults_where_the_deployment_has_no_config() {
        let (mut host, guest) = start("null");
        assert!(look(&mut host, &guest, 0.6, &[]).is_some());
    }

    #[test]
    fn an_unbound_model_is_an_inference_fault() {
        assert_eq!(Host::new("{}").start::<SurfaceDefect>().err(), Some(Fault::INFERENCE));
    }
}
