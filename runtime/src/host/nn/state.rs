//! What a guest has of inference: models, graphs and execution contexts by their handles, and tensors.

use std::{collections::BTreeSet, sync::Arc};

use sanderling_protocol::{
    deployment::Limits,
    worker::{Fault, FaultCode},
};

use super::{MAX_CONTEXTS, error::NnError};
use crate::{
    image::Preparer,
    infer::{
        Context, Graph, InferError, Inference,
        models::{Models, NamedModel},
    },
};

const MIB: usize = 1 << 20;
/// Different sentences that are remembered as said.
const MAX_SAID: usize = 64;

/// Models, graphs, execution contexts and tensors of one guest. Models, plans and buffers outlive its instances.
pub struct NnState {
    models: Models,
    graphs: Vec<Arc<dyn Graph>>,
    contexts: Vec<Box<dyn Context>>,
    /// Turns the current frame into tensors; here, so that an input and the preparer can be used at once.
    pub(in crate::host) preparer: Preparer,
    pub(super) limit: usize,
    /// Sentences that stand in the log.
    said: BTreeSet<String>,
}

impl NnState {
    /// Parses the deployment's models.
    ///
    /// # Errors
    /// A fault that names the model that does not parse (`init`) or needs too much memory (`native_memory`).
    pub fn new(inference: Arc<dyn Inference>, models: Vec<NamedModel>, limits: &Limits) -> Result<Self, Fault> {
        let limit = (limits.native_memory_mib as usize).saturating_mul(MIB);
        let models = Models::new(inference, models, limit).map_err(|error| fault(&error))?;
        let preparer = Preparer::new(limit);
        Ok(Self { models, graphs: Vec::new(), contexts: Vec::new(), preparer, limit, said: BTreeSet::new() })
    }

    /// Forgets the execution contexts, with all that their tensors hold, and the graphs. The models stay parsed.
    pub(crate) fn forget(&mut self) {
        self.contexts.clear();
        self.graphs.clear();
    }

    pub(super) fn load_by_name(&mut self, name: &[u8]) -> Result<u32, NnError> {
        let Some(graph) = self.models.named(name).map(Arc::clone) else {
            let names: Vec<&str> = self.models.names().collect();
            let bound = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let name = String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned();
            return Err(NnError::Name { name, bound });
        };
        Ok(self.handle(graph))
    }

    pub(super) fn load(&mut self, onnx: &[u8]) -> Result<u32, NnError> {
        let graph = self.models.bring(onnx, self.tensors(None))?;
        Ok(self.handle(graph))
    }

    /// The same handle each time for the same graph, so that loading cannot use memory up.
    fn handle(&mut self, graph: Arc<dyn Graph>) -> u32 {
        let at = self.graphs.iter().position(|own| Arc::ptr_eq(own, &graph)).unwrap_or_else(|| {
            self.graphs.push(graph);
            self.graphs.len() - 1
        });
        // There are no more than models.
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    pub(super) fn init_execution_context(&mut self, graph: i32) -> Result<u32, NnError> {
        let found = usize::try_from(graph).ok().and_then(|graph| self.graphs.get(graph));
        let found = found.ok_or(NnError::Graph(graph))?;
        if self.contexts.len() >= MAX_CONTEXTS {
            return Err(NnError::Contexts);
        }
        let context = Arc::clone(found).context()?;
        let handle = u32::try_from(self.contexts.len()).map_err(|_| NnError::Contexts)?;
        self.contexts.push(context);
        Ok(handle)
    }

    /// The execution context with this handle.
    pub(in crate::host) fn context(&mut self, handle: i32) -> Option<&mut Box<dyn Context>> {
        usize::try_from(handle).ok().and_then(|handle| self.contexts.get_mut(handle))
    }

    /// The execution context with this handle, and what writes images to its inputs.
    pub(in crate::host) fn context_and_preparer(
        &mut self,
        handle: i32,
    ) -> Option<(&mut Box<dyn Context>, &mut Preparer)> {
        let context = usize::try_from(handle).ok().and_then(|handle| self.contexts.get_mut(handle))?;
        Some((context, &mut self.preparer))
    }

    /// Whether a context may have an input of `bytes`, seen from the tensors of all contexts and the models that the guest brought.
    pub(in crate::host) fn has_room(&self, handle: i32, index: usize, bytes: usize) -> bool {
        let held = self.tensors(Some((handle, index))).saturating_add(self.models.held());
        held.saturating_add(bytes) <= self.limit
    }

    /// The bytes allowed for all of it.
    pub(in crate::host) fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes of all tensors, but for one input.
    fn tensors(&self, but: Option<(i32, usize)>) -> usize {
        let contexts = self.contexts.iter().zip(0_i32..);
        let held = contexts
            .map(|(context, own)| context.held(but.and_then(|(handle, index)| (own == handle).then_some(index))));
        held.fold(0, usize::saturating_add)
    }

    /// Whether a sentence was not said yet; of the last few of them, not of all that ever were.
    pub(super) fn is_new(&self, sentence: &str) -> bool {
        !self.said.contains(sentence)
    }

    /// Remembers a sentence as said.
    pub(super) fn remember(&mut self, sentence: String) {
        if self.said.len() >= MAX_SAID {
            self.said.clear();
        }
        self.said.insert(sentence);
    }
}

fn fault(error: &InferError) -> Fault {
    let code = match error {
        InferError::TooLarge { .. } => FaultCode::NativeMemory,
        _ => FaultCode::Init,
    };
    Fault::new(code, error.to_string())
}
