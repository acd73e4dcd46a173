//! What the module keeps over guests of a run, and with `--state` over runs: a JSON list of `{"key", "value"}`, each a text, or
//! `{"hex": …}` where it is none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sanderling_protocol::worker::{State, StateKey, StateValue, check_key, check_value};
use sanderling_runtime::MemoryState;
use serde_json::{Value, json};

use super::print::hex;
use crate::home;

/// The state, and where it is saved.
pub(crate) struct Kept {
    /// The state, as guests share it.
    pub(crate) memory: MemoryState,
    file: Option<PathBuf>,
}

impl Kept {
    /// What an earlier run left in `file`; nothing where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no state.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self> {
        let state = match file {
            Some(path) if path.exists() => {
                read(&home::read(path)?).with_context(|| format!("{} is not the state of a module", path.display()))?
            }
            _ => State::default(),
        };
        Ok(Self { memory: MemoryState::new(state), file: file.map(Path::to_owned) })
    }

    /// Saves it, where it has a file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn save(&self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let state = self.memory.get();
        let entries = state.iter().map(|(key, value)| json!({ "key": written(key), "value": written(value) }));
        home::write(path, format!("{:#}\n", Value::Array(entries.collect())).as_bytes())
    }
}

fn read(content: &[u8]) -> Result<State> {
    let Value::Array(entries) = serde_json::from_slice(content)? else { bail!("it is no list") };
    let entry = |entry: &Value| -> Result<(StateKey, StateValue)> {
        let (key, value) = (bytes(&entry["key"])?, bytes(&entry["value"])?);
        check_key(&key).and_then(|()| check_value(&value))?;
        Ok((key.into(), value.into()))
    };
    entries.iter().map(entry).collect()
}

fn written(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "hex": hex(bytes) }), Value::from)
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let digits = value["hex"].as_str().map(str::as_bytes).unwrap_or(b"-").chunks(2);
    let byte = |pair: &[u8]| match pair {
        [_, _] => std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()),
        _ => None,
    };
    digits.map(byte).collect::<Option<_>>().ok_or_else(|| anyhow!("keys and values are texts or {{\"hex\": …}}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut kept = Kept::load(Some(&path)).unwrap();
        let state: State = [(&b"text"[..], &b"value"[..]), (b"\xff\0", b"\x80"), (b"empty", b"")]
            .map(|(key, value)| (key.into(), value.into()))
            .into_iter()
            .collect();
        kept.memory = MemoryState::new(state.clone());
        kept.save().unwrap();
        assert_eq!(Kept::load(Some(&path)).unwrap().memory.get(), state);
        assert!(Kept::load(None).unwrap().memory.get().is_empty());
    }

    #[test]
    fn refuses_what_is_no_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for wrong in [
            "{}",
            "[1]",
            r#"[{"key": "a"}]"#,
            r#"[{"key": "", "value": ""}]"#,
            r#"[{"key": "a", "value": {"hex": "1"}}]"#,
            r#"[{"key": "a", "value": {"hex": "xy"}}]"#,
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = Kept::load(Some(&path)).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("state.json"), "{wrong}: {error:#}");
        }
    }
}
