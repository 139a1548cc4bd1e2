//! Checkpoints, trimming and the state directory, seen from outside, on a real broker.

mod beginning;
mod state;
mod support;
mod trimming;
