//! What the three programs share: settings, exit codes, logging, the broker connection, metrics and health over HTTP.
//!
//! A program declares its settings once, as a `clap` struct, and gets flags, environment, file and reference from it:
//!
//! ```no_run
//! use muster_runtime::{broker::BrokerSettings, exit::Exit, logging::LogSettings, settings::{Check, Program, Settings}};
//!
//! /// Folds the log of a namespace and answers queries.
//! #[derive(clap::Parser)]
//! #[command(name = "muster-example")]
//! struct ExampleSettings {
//!     #[command(flatten)]
//!     broker: BrokerSettings,
//!     #[command(flatten)]
//!     log: LogSettings,
//!     /// How many.
//!     #[arg(long, default_value_t = 3, value_name = "COUNT")]
//!     count: u32,
//! }
//!
//! impl Settings for ExampleSettings {
//!     fn check(&mut self, check: &mut Check) {
//!         self.broker.check(check);
//!     }
//! }
//!
//! let loaded = Program::new("example").load_or_exit::<ExampleSettings>();
//! loaded.settings.log.start();
//! loaded.log_warnings();
//! let _: Exit = Exit::Success;
//! ```

pub mod settings;
pub mod logging;
pub mod broker;
pub mod metrics;
pub mod http;
pub mod output;
pub mod stop;
pub mod exit;
pub mod version;
