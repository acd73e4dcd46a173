//! A guest's state as it lies in its instance: read for a snapshot, put back from one, digested.

use sanderling_protocol::flight::{END_OF_PAGES, GlobalKind, PAGE, Snapshot};
use thiserror::Error;
use wasmi::{F32, F64, Global, Instance, Memory, Store, V128, Val};

use super::{
    Exposed, StateDigest,
    expose::{global_name, memory_name},
    flight::Writer,
};
use crate::host::HostState;

/// A wasm page, in bytes.
const WASM_PAGE: u64 = 65_536;

/// Why a snapshot does not fit a module.
#[derive(Debug, Error)]
pub(crate) enum RestoreError {
    /// It has other memories or globals.
    #[error("the snapshot is of another module: {0}")]
    Other(&'static str),
    /// A memory cannot have the size that it had.
    #[error("a memory cannot be as large as in the snapshot: {0}")]
    Size(wasmi::errors::MemoryError),
}

/// What of an instance can change and can be seen.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    memories: Vec<Memory>,
    globals: Vec<(u32, Global)>,
    /// Whether that is all of its state.
    pub(crate) whole: bool,
}

impl Watched {
    /// Finds it in an instance of a module that was exposed.
    pub(crate) fn find(store: &Store<HostState>, instance: Instance, exposed: &Exposed) -> Self {
        let memories = (0..exposed.memories).filter_map(|index| instance.get_memory(store, &memory_name(index)));
        let globals = (0..exposed.globals).filter_map(|index| {
            let global = instance.get_global(store, &global_name(index))?;
            global.ty(store).mutability().is_mut().then_some((index, global))
        });
        let (memories, globals): (Vec<_>, Vec<_>) = (memories.collect(), globals.collect());
        let values = globals.iter().all(|(_, global)| parts(&global.get(store)).is_some());
        Self { memories, globals, whole: values && !exposed.changes_more_than_memory }
    }

    /// Writes a snapshot; `place` is the length of frames for which the guest has named a place, and that place.
    pub(crate) fn write(&self, store: &Store<HostState>, place: Option<(u64, u64)>, to: &mut Writer<'_>) {
        let (length, pointer) = place.unwrap_or_default();
        to.put(&[u8::from(place.is_some())]);
        to.put(&length.to_le_bytes());
        to.put(&pointer.to_le_bytes());
        to.put(&count(self.globals.len()));
        for (index, global) in &self.globals {
            let (kind, bits) = parts(&global.get(store)).unwrap_or((GlobalKind::I32, 0));
            to.put(&index.to_le_bytes());
            to.put(&[kind as u8]);
            to.put(&bits.to_le_bytes());
        }
        to.put(&count(self.memories.len()));
        for memory in &self.memories {
            let bytes = memory.data(store);
            to.put(&(bytes.len() as u64).to_le_bytes());
            write_pages(bytes, to);
        }
    }

    /// Puts a snapshot in place.
    pub(crate) fn restore(&self, store: &mut Store<HostState>, snapshot: &Snapshot<'_>) -> Result<(), RestoreError> {
        if snapshot.memories.len() != self.memories.len() || snapshot.globals.len() != self.globals.len() {
            return Err(RestoreError::Other("it has more or fewer memories or globals"));
        }
        for ((index, global), kept) in self.globals.iter().zip(&snapshot.globals) {
            if *index != kept.index {
                return Err(RestoreError::Other("its globals are others"));
            }
            global
                .set(&mut *store, value(kept.kind, kept.bits))
                .map_err(|_| RestoreError::Other("a global has another type"))?;
        }
        for (memory, kept) in self.memories.iter().zip(&snapshot.memories) {
            let missing = kept.size.checked_sub(memory.data_size(&*store) as u64);
            let missing = missing.ok_or(RestoreError::Other("a memory begins larger"))?;
            memory.grow(&mut *store, missing.div_ceil(WASM_PAGE)).map_err(RestoreError::Size)?;
            kept.write_to(memory.data_mut(&mut *store)).map_err(|_| RestoreError::Other("a page lies outside"))?;
        }
        Ok(())
    }

    /// A digest of memories and globals.
    pub(crate) fn digest(&self, store: &Store<HostState>) -> u64 {
        let mut digest = StateDigest::default();
        self.memories.iter().for_each(|memory| digest.memory(memory.data(store)));
        for (index, global) in &self.globals {
            let (_, bits) = parts(&global.get(store)).unwrap_or((GlobalKind::I32, 0));
            digest.global(*index, bits);
        }
        digest.finish()
    }
}

fn count(length: usize) -> [u8; 4] {
    // Memories and globals are counted in thousands at most.
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Writes runs of pages that are not all zeros.
fn write_pages(bytes: &[u8], to: &mut Writer<'_>) {
    let pages = bytes.as_chunks::<PAGE>().0;
    let mut at = 0;
    while let Some(rest) = pages.get(at..).filter(|rest| !rest.is_empty()) {
        let zeros = rest.iter().take_while(|page| is_zero(page)).count();
        let run = rest.get(zeros..).unwrap_or_default();
        let length = run.iter().take_while(|page| !is_zero(page)).count();
        if length > 0 {
            to.put(&count(at + zeros));
            to.put(&count(length));
            to.put(run.get(..length).unwrap_or_default().as_flattened());
        }
        at += zeros + length;
    }
    to.put(&END_OF_PAGES.to_le_bytes());
}

fn is_zero(page: &[u8; PAGE]) -> bool {
    // In pieces, so that the compiler makes vectors of it and a page that is in use is found out early.
    page.as_chunks::<256>().0.iter().all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

fn parts(value: &Val) -> Option<(GlobalKind, u128)> {
    Some(match value {
        Val::I32(value) => (GlobalKind::I32, value.cast_unsigned().into()),
        Val::I64(value) => (GlobalKind::I64, value.cast_unsigned().into()),
        Val::F32(value) => (GlobalKind::F32, value.to_bits().into()),
        Val::F64(value) => (GlobalKind::F64, value.to_bits().into()),
        Val::V128(value) => (GlobalKind::V128, value.as_u128()),
        Val::FuncRef(_) | Val::ExternRef(_) => return None,
    })
}

fn value(kind: GlobalKind, bits: u128) -> Val {
    // What was widened when it was written.
    match kind {
        GlobalKind::I32 => Val::I32((bits as u32).cast_signed()),
        GlobalKind::I64 => Val::I64((bits as u64).cast_signed()),
        GlobalKind::F32 => Val::F32(F32::from_bits(bits as u32)),
        GlobalKind::F64 => Val::F64(F64::from_bits(bits as u64)),
        GlobalKind::V128 => Val::V128(V128::from(bits)),
    }
}
