//! The inference port.
