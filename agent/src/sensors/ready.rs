//! Waits until a device has something to read.
//!
//! Holds one block of `unsafe`: tokio cannot know that a descriptor stays open while it watches it. The borrow says so here.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use tokio::io::{
    Interest,
    unix::{AsyncFd, AsyncFdReadyGuard},
};

/// A descriptor that is watched.
pub(super) struct Ready<'fd> {
    watched: AsyncFd<BorrowedFd<'fd>>,
}

impl<'fd> Ready<'fd> {
    /// Watches `device`, which must not block when it is read.
    pub(super) fn new(device: &'fd impl AsFd) -> io::Result<Self> {
        // SAFETY: the borrow keeps the descriptor open for longer than this lives, and a `BorrowedFd` gives the same number each
        // time. Nothing forgets a `Ready` without dropping it: it is neither leaked nor handed out.
        let watched = unsafe { AsyncFd::register_with_interest(device.as_fd(), Interest::READABLE) };
        Ok(Self { watched: watched.map_err(|error| error.into_parts().1)? })
    }

    /// Waits until a read may give something. Once one did not, the guard is told so with `clear_ready`.
    pub(super) async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, BorrowedFd<'fd>>> {
        self.watched.readable().await
    }
}
