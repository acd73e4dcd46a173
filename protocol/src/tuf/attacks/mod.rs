//! Attacks on a client, by the name that the refusal bears. The repository under attack is built here with `author`.

#![allow(clippy::unwrap_used)]

mod chain;
mod delegation;
mod envelope;
mod recovery;
mod repository;
mod work;
