//! What the demo measured.

use anyhow::Result;
use serde::Serialize;

/// The model must tell defects from good surfaces at least this well on images that it never saw.
const AUC: f64 = 0.97;
/// The next version's bytes in a hundred of the first one's, at most.
const DELTA_PERCENT: u64 = 35;

/// All of it measured in one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// From the start of publishing to the first defect at the operator's side.
    pub(super) publish_to_first_detection_ms: f64,
    /// Frames that the module handled in a second.
    pub(super) frames_per_s: f64,
    /// Median time of a frame in the worker, decoding included.
    pub(super) frame_ms_p50: f64,
    /// 99th percentile of the same.
    pub(super) frame_ms_p99: f64,
    /// Proportional set size of the agent.
    pub(super) agent_pss_kib: u64,
    /// Proportional set size of the worker.
    pub(super) worker_pss_kib: u64,
    /// Bytes pulled for the first version.
    pub(super) bytes_full: u64,
    /// Bytes pulled for the second version.
    pub(super) bytes_delta: u64,
    /// Of what was called a defect, the part that is one.
    pub(super) precision: f64,
    /// Of the defects, the part that was found.
    pub(super) recall: f64,
    /// Area under the ROC curve.
    pub(super) auc: f64,
    /// Whether the tampered module was refused and the running one ran on.
    pub(super) tampered_refused: bool,
    /// Whether the crashing module was rolled back.
    pub(super) rolled_back: bool,
}

impl Summary {
    /// Whether everything held.
    pub(super) fn ok(&self) -> bool {
        self.tampered_refused && self.rolled_back && self.auc >= AUC && self.is_small()
    }

    /// Whether the next version was pulled with at most 35 % of the bytes of the first.
    fn is_small(&self) -> bool {
        self.bytes_delta.saturating_mul(100) <= self.bytes_full.saturating_mul(DELTA_PERCENT)
    }

    /// Prints it for people, or as one JSON object on the last line.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            let mut object = serde_json::to_value(self)?;
            object["ok"] = self.ok().into();
            println!("{object}");
            return Ok(());
        }
        let held = |held: bool| if held { "yes" } else { "NO" };
        println!();
        println!("publish to first detection  {:.0} ms", self.publish_to_first_detection_ms);
        println!("frames per second           {:.0}", self.frames_per_s);
        println!("a frame, median and 99 %    {:.2} ms, {:.2} ms", self.frame_ms_p50, self.frame_ms_p99);
        println!("memory (PSS)                agent {} KiB, worker {} KiB", self.agent_pss_kib, self.worker_pss_kib);
        let part = self.bytes_delta as f64 / self.bytes_full.max(1) as f64 * 100.0;
        println!(
            "pulled                      {} bytes, then {} for the next version ({part:.0} %)",
            self.bytes_full, self.bytes_delta
        );
        println!(
            "on images never seen        precision {:.3}, recall {:.3}, AUC {:.3}",
            self.precision, self.recall, self.auc
        );
        println!("tampered module refused     {}", held(self.tampered_refused));
        println!("crashing module rolled back {}", held(self.rolled_back));
        println!("everything held             {}", held(self.ok()));
        Ok(())
    }
}
