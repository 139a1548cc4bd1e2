//! The consumer library against a real broker and a real registry: what it proves, what it says when it cannot.

mod relay;
mod support;

mod errors;
mod faults;
mod fold;
mod registrar;
mod views;
