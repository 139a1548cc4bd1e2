//! The registry: folds the log of registrations into a catalog, answers queries from it, publishes its changes.
//!
//! [`core`] decides everything and does nothing; the rest of this crate does what it asks for, on a NATS broker. One task
//! owns the core (`shell`); one answers queries from the snapshots that the core shows (`queries`).

pub mod checkpoint_threads;
pub mod core;

mod broker_api;
mod checkpoint_store;
mod clock;
mod core_thread;
mod error;
mod inspection;
mod link_watch;
mod links;
mod log_reader;
mod metrics;
pub mod past;
mod proposals;
mod queries;
mod run;
mod settings;
mod shell;
mod state_file;
mod stream;
mod trimming;

pub use error::RegistryError;
pub use metrics::metric_docs;
pub use queries::{Answering, is_met};
pub use run::run;
pub use settings::RegistrySettings;
pub use stream::{Difference, differences as stream_differences};
