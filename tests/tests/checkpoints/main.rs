//! Checkpoints, trimming and the state directory, seen from outside, on a real broker.

mod beginning;
mod export;
mod past;
mod state;
mod support;
mod trimming;
