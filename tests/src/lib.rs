//! The harness of the scenario tests: a real nats-server per test, real processes, and faults done to them.
//!
//! Everything is killed when it goes out of scope, and also when the test itself is killed. There is no sleeping: a
//! test waits for a condition with [`eventually()`], or asserts that one holds [`throughout`] a time.
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//! use muster_tests::{NatsServer, ProcessBuilder, bin};
//!
//! let mut broker = NatsServer::builder().fixed_port().start().await;
//! let registry = ProcessBuilder::new(bin("muster-registry")).args(["--server", &broker.url()]).start();
//! registry.wait_for_line("ready", Duration::from_secs(5)).await;
//! broker.kill();
//! broker.wipe_store();
//! broker.restart().await;
//! # }
//! ```

pub mod nats_server;
pub mod cluster;
pub mod process;
pub mod proxy;
pub mod faketime;
pub mod eventually;
pub mod http;
pub mod port;
pub mod tools;
mod watchdog;

pub use cluster::Cluster;
pub use eventually::{eventually, throughout};
pub use nats_server::NatsServer;
pub use port::free_port;
pub use process::{Process, ProcessBuilder};
pub use proxy::Proxy;
pub use tools::bin;
