//! An inference port that looks on: it writes the inputs of each inference to files and leaves the work to tract.
//!
//! A file holds the elements of one input as the model got them, little-endian, without a header: what another engine needs to
//! be compared with. Its name is `{seq}-{inference}-{input}.{type}`: the frame's number in six digits (0 for what
//! runs before the first frame), the inference within that frame and the input, both from 0 on.
//!
//! Failure modes: the first file that cannot be written is remembered and ends the run after its frame; the guest notices
//! nothing. Writing takes time, which counts as the frame's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use sanderling_runtime::infer::{
    Context, Graph, InferError, Inference, TensorInfo, TensorType, TensorView, tract::Tract,
};

/// The folder, and where in the run we are.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    seq: u64,
    inference: u32,
    failed: Option<anyhow::Error>,
}

/// Inference by tract whose inputs are written to a folder. Clones share the folder.
#[derive(Clone, Debug)]
pub(crate) struct Dumping {
    tract: Tract,
    folder: Arc<Mutex<Folder>>,
}

impl Dumping {
    /// Writes to `path`, which is made where it is missing.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub(crate) fn new(tract: Tract, path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| {
            format!("could not make the folder {}; name another one with --dump-tensors", path.display())
        })?;
        let folder = Folder { path: path.to_owned(), seq: 0, inference: 0, failed: None };
        Ok(Self { tract, folder: Arc::new(Mutex::new(folder)) })
    }

    /// Names what comes next after this frame.
    pub(crate) fn begin(&self, seq: u64) {
        let mut folder = lock(&self.folder);
        (folder.seq, folder.inference) = (seq, 0);
    }

    /// What went wrong since the last call.
    ///
    /// # Errors
    /// The file that could not be written, with the reason.
    pub(crate) fn check(&self) -> Result<()> {
        lock(&self.folder).failed.take().map_or(Ok(()), Err)
    }
}

fn lock(folder: &Mutex<Folder>) -> MutexGuard<'_, Folder> {
    folder.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inference for Dumping {
    fn load(&self, name: &str, onnx: &[u8]) -> Result<Arc<dyn Graph>, InferError> {
        let graph = self.tract.load(name, onnx)?;
        Ok(Arc::new(DumpingGraph { graph, folder: Arc::clone(&self.folder) }))
    }
}

struct DumpingGraph {
    graph: Arc<dyn Graph>,
    folder: Arc<Mutex<Folder>>,
}

impl Graph for DumpingGraph {
    fn context(self: Arc<Self>) -> Result<Box<dyn Context>, InferError> {
        let context = Arc::clone(&self.graph).context()?;
        Ok(Box::new(DumpingContext { context, inputs: Vec::new(), folder: Arc::clone(&self.folder) }))
    }

    fn held(&self) -> usize {
        self.graph.held()
    }
}

struct DumpingContext {
    context: Box<dyn Context>,
    /// Index, type and shape of each input that was set.
    inputs: Vec<(usize, TensorType, Vec<usize>)>,
    folder: Arc<Mutex<Folder>>,
}

impl DumpingContext {
    fn dump(&mut self) -> Result<()> {
        let Self { context, inputs, folder } = self;
        let mut folder = lock(folder);
        for (index, element, dims) in inputs {
            let extension = format!("{element:?}").to_lowercase();
            let file = folder.path.join(format!("{:06}-{}-{index}.{extension}", folder.seq, folder.inference));
            // Asked for again with its type and shape, an input has what was written last.
            let bytes = context.input(*index, *element, dims)?;
            fs::write(&file, bytes).with_context(|| {
                format!("could not write {}; make room, or leave --dump-tensors out", file.display())
            })?;
        }
        folder.inference += 1;
        Ok(())
    }
}

impl Context for DumpingContext {
    fn wanted(&self, index: usize) -> Option<TensorType> {
        self.context.wanted(index)
    }

    fn input(&mut self, index: usize, element: TensorType, dims: &[usize]) -> Result<&mut [u8], InferError> {
        let bytes = self.context.input(index, element, dims)?;
        match self.inputs.iter_mut().find(|(known, ..)| *known == index) {
            Some(input) => *input = (index, element, dims.to_vec()),
            None => self.inputs.push((index, element, dims.to_vec())),
        }
        Ok(bytes)
    }

    fn compute(&mut self) -> Result<(), InferError> {
        if let Err(error) = self.dump() {
            lock(&self.folder).failed.get_or_insert(error);
        }
        self.context.compute()
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, InferError> {
        self.context.output(index)
    }

    fn output_info(&self, index: usize) -> Result<TensorInfo, InferError> {
        self.context.output_info(index)
    }

    fn held(&self, without: Option<usize>) -> usize {
        self.context.held(without)
    }
}
