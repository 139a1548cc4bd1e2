//! A registry seen from outside: raw events in, changes, pulses and answers out, on a real broker.

mod in_process;
mod log;
mod queries;
mod replicas;
mod start;
mod support;
