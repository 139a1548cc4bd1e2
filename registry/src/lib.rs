//! The registry: folds the log of registrations into a catalog, answers queries from it, publishes its changes.

pub mod core;
