//! The options of a backtrace, and the backtrace in words and as a value.

use std::path::PathBuf;

use anyhow::Result;
use sanderling_runtime::replay::ReplaySpec;
use serde_json::{Value, json};

use super::{
    Backtrace, BacktraceError, backtrace,
    frames::{DEEPEST, Place},
};
use crate::home;

/// Whether a backtrace is wanted, and of what.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct BacktraceOptions {
    /// Print where in the module it ended: the functions that were being called, by name, with their lines in the source where the module
    /// has debug information.
    #[arg(long)]
    backtrace: bool,
    /// The module as it was before it was stripped: names and lines for the backtrace are taken from it. Its code must be the same.
    #[arg(long, value_name = "FILE", requires = "backtrace")]
    debug_info: Option<PathBuf>,
}

impl BacktraceOptions {
    /// Adds the backtrace to what is said of a replay, where it is wanted.
    pub(crate) fn tell(
        &self,
        record: &[u8],
        spec: &ReplaySpec<'_>,
        told: &mut Vec<String>,
        value: &mut Value,
    ) -> Result<()> {
        if !self.backtrace {
            return Ok(());
        }
        let companion = self.debug_info.as_deref().map(home::read).transpose()?;
        let backtrace = backtrace(record, spec, companion.as_deref()).map_err(|error| self.named(error))?;
        told.extend(words(&backtrace));
        value["backtrace_of"] = backtrace.end.to_string().into();
        value["backtrace_exact"] = (!backtrace.about && backtrace.same_state != Some(false)).into();
        value["backtrace"] = backtrace.places.iter().map(place_value).collect();
        Ok(())
    }
}

impl BacktraceOptions {
    /// An error with the name of the file that it is about.
    fn named(&self, error: BacktraceError) -> anyhow::Error {
        match (&self.debug_info, error) {
            (Some(file), BacktraceError::Companion(error)) => {
                anyhow::Error::new(error).context(format!("{} is of no use here", file.display()))
            }
            (_, error) => error.into(),
        }
    }
}

fn words(backtrace: &Backtrace) -> Vec<String> {
    let mut words = vec![format!("backtrace {}", backtrace.end)];
    if backtrace.about {
        words.push(
            "          the place is about the one: an end by fuel, time or depth of calls has no other in this engine"
                .to_owned(),
        );
    }
    if backtrace.same_state == Some(false) {
        words.push("          memories and globals are others than recorded: the place may be another".to_owned());
    }
    if backtrace.places.is_empty() {
        words.push("          no function of the module was being called".to_owned());
    }
    let mut depth = 0;
    for place in &backtrace.places {
        words.push(function(depth, place));
        words.extend(source(place));
        depth += usize::from(!place.inlined);
    }
    if depth == DEEPEST {
        words.push(format!("      the innermost {DEEPEST} functions; there may be more"));
    }
    if backtrace.places.iter().all(|place| place.file.is_none()) && !backtrace.places.is_empty() {
        words.push(
            "          the module has no debug information; --debug-info names the file that it was stripped from"
                .to_owned(),
        );
    }
    words
}

fn function(depth: usize, place: &Place) -> String {
    let index = place.index;
    match (&place.name, place.inlined) {
        (Some(name), false) => format!("{depth:4}  {name} (function {index})"),
        (None, false) => format!("{depth:4}  function {index}"),
        (name, true) => {
            let name = name.as_deref().unwrap_or("a function without a name");
            format!("{depth:4}  {name} (inlined)")
        }
    }
}

fn source(place: &Place) -> Option<String> {
    let mut at = format!("        at {}", place.file.as_deref()?);
    for number in [place.line, place.line.and(place.column)].into_iter().flatten() {
        at.push_str(&format!(":{number}"));
    }
    Some(at)
}

fn place_value(place: &Place) -> Value {
    let Place { index, name, inlined, file, line, column } = place;
    json!({ "index": index, "name": name, "inlined": inlined, "file": file, "line": line, "column": column })
}
