//! The models of one guest, parsed once, however many instances it has: with them live the plans that are made for its inputs.
//!
//! The deployment's models have names and stay. What a guest brings itself, with the grant `infer:load`, is known by its
//! content: the same bytes are parsed once, too. Of those at most [`MAX_BROUGHT`] are kept, and their weights count against
//! `native_memory_mib`; a new one takes the place of the one that was not asked for longest, unless it is in use.

use std::sync::Arc;

use sanderling_protocol::digest::Digest;

use super::{Graph, InferError, Inference};

/// Models that a guest brings itself, at most so many at a time.
pub const MAX_BROUGHT: usize = 4;
/// What messages call a model that the guest brought.
const UNNAMED: &str = "(brought by the guest)";

/// A model under the name by which the guest loads it.
#[derive(Clone, Debug)]
pub struct NamedModel {
    /// The name given to `load_by_name`.
    pub name: String,
    /// The ONNX file.
    pub bytes: Arc<[u8]>,
}

/// All models of a guest.
pub struct Models {
    inference: Arc<dyn Inference>,
    named: Vec<(String, Arc<dyn Graph>)>,
    /// The one asked for last at the end.
    brought: Vec<(Digest, Arc<dyn Graph>)>,
    limit: usize,
}

impl Models {
    /// Parses the deployment's models. Those that the guest brings are held to `limit` bytes.
    ///
    /// # Errors
    /// Those of [`Inference::load`].
    pub fn new(inference: Arc<dyn Inference>, named: Vec<NamedModel>, limit: usize) -> Result<Self, InferError> {
        let parse = |NamedModel { name, bytes }| {
            let graph = inference.load(&name, &bytes)?;
            Ok((name, graph))
        };
        let named = named.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { inference, named, brought: Vec::new(), limit })
    }

    /// The model that the deployment binds to `name`.
    pub fn named(&self, name: &[u8]) -> Option<&Arc<dyn Graph>> {
        self.named.iter().find(|(own, _)| own.as_bytes() == name).map(|(_, graph)| graph)
    }

    /// The names that the deployment binds.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(name, _)| name.as_str())
    }

    /// The bytes of what the guest brought.
    pub fn held(&self) -> usize {
        self.brought.iter().map(|(_, graph)| graph.held()).fold(0, usize::saturating_add)
    }

    /// A model that the guest brings, beside `others` bytes that it holds already.
    ///
    /// # Errors
    /// [`InferError::Busy`] where too many are in use, [`InferError::TooLarge`] where this one does not fit beside those, and those
    /// of [`Inference::load`].
    pub fn bring(&mut self, onnx: &[u8], others: usize) -> Result<Arc<dyn Graph>, InferError> {
        let digest = Digest::of(onnx);
        if let Some(at) = self.brought.iter().position(|(known, _)| *known == digest) {
            let found = self.brought.remove(at);
            let graph = Arc::clone(&found.1);
            self.brought.push(found);
            return Ok(graph);
        }
        if self.brought.len() >= MAX_BROUGHT && !self.let_go() {
            return Err(InferError::Busy { most: MAX_BROUGHT });
        }
        self.make_room(onnx.len().saturating_add(others))?;
        let graph = self.inference.load(UNNAMED, onnx)?;
        self.make_room(graph.held().saturating_add(others))?;
        self.brought.push((digest, Arc::clone(&graph)));
        Ok(graph)
    }

    /// Lets go of models until so many bytes fit beside those that are left.
    fn make_room(&mut self, bytes: usize) -> Result<(), InferError> {
        while bytes.saturating_add(self.held()) > self.limit {
            if !self.let_go() {
                let bytes = bytes.saturating_add(self.held());
                return Err(InferError::TooLarge {
                    name: UNNAMED.to_owned(),
                    what: "memory",
                    bytes,
                    limit: self.limit,
                });
            }
        }
        Ok(())
    }

    /// Forgets the model that was not asked for longest, of those that are not in use. `false` where there is none.
    fn let_go(&mut self) -> bool {
        let unused = self.brought.iter().position(|(_, graph)| Arc::strong_count(graph) == 1);
        unused.map(|at| self.brought.remove(at)).is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::infer::fake::FakeInference;

    const MANY: usize = 1 << 20;

    fn models(limit: usize) -> (Models, impl Fn() -> usize) {
        let fake = FakeInference::default();
        let parsed = Arc::clone(&fake.parsed);
        let named = vec![NamedModel { name: "a".to_owned(), bytes: Arc::from([1].as_slice()) }];
        (Models::new(Arc::new(fake), named, limit).unwrap(), move || parsed.load(Ordering::Relaxed))
    }

    #[test]
    fn the_same_bytes_are_parsed_once() {
        let (mut models, parsed) = models(MANY);
        let first = models.bring(&[7], 0).unwrap();
        assert!(Arc::ptr_eq(&first, &models.bring(&[7], 0).unwrap()));
        assert_eq!(parsed(), 2, "the one with a name, and this one");
        assert!(models.named(b"a").is_some() && models.named(b"b").is_none());
    }

    #[test]
    fn a_new_model_takes_the_place_of_the_one_not_asked_for_longest() {
        let (mut models, parsed) = models(MANY);
        (0..4).for_each(|model| drop(models.bring(&[model], 0).unwrap()));
        drop(models.bring(&[0], 0).unwrap());
        drop(models.bring(&[4], 0).unwrap());
        assert_eq!((models.brought.len(), parsed()), (MAX_BROUGHT, 6));
        drop(models.bring(&[0], 0).unwrap());
        assert_eq!(parsed(), 6, "still there");
        drop(models.bring(&[1], 0).unwrap());
        assert_eq!(parsed(), 7, "was let go of");
    }

    #[test]
    fn models_in_use_are_not_let_go_of() {
        let (mut models, _) = models(MANY);
        let used: Vec<_> = (0..4).map(|model| models.bring(&[model], 0).unwrap()).collect();
        assert!(matches!(models.bring(&[9], 0), Err(InferError::Busy { most: MAX_BROUGHT })));
        drop(used);
        assert!(models.bring(&[9], 0).is_ok());
    }

    #[test]
    fn weights_count_against_the_limit() {
        // The fake's models hold 100 bytes each.
        let (mut models, _) = models(250);
        let first = models.bring(&[1], 0).unwrap();
        assert!(matches!(models.bring(&[2], 100), Err(InferError::TooLarge { limit: 250, .. })));
        assert!(models.bring(&[2], 50).is_ok());
        assert_eq!(models.held(), 200);
        drop(first);
        // The first makes room.
        assert!(models.bring(&[3], 50).is_ok());
        assert_eq!(models.held(), 200);
        assert!(matches!(models.bring(&[0; 300], 0), Err(InferError::TooLarge { .. })), "not even parsed");
    }

    #[test]
    fn what_does_not_parse_is_not_kept() {
        let (mut models, _) = models(MANY);
        assert!(matches!(models.bring(b"junk", 0), Err(InferError::Load { .. })));
        assert_eq!((models.brought.len(), models.held()), (0, 0));
    }
}
