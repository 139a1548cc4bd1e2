//! The thread that the core works on, with the connections that the log comes by and the changes leave by.
//!
//! On one thread an event passes from the broker to the core and on to the broker without anybody being woken. Whatever else
//! a registry does (answers, checkpoints, the past, HTTP) runs on the threads of whoever started it: neither waits for the
//! other.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of one thread. It ends when this is dropped, with whatever still runs on it.
pub(crate) struct CoreThread {
    /// Taken only when it ends.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl CoreThread {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("core").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// To spawn tasks on it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What a future that does its work on this thread comes to; a panic goes on here.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.handle.spawn(work).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Nobody else ends it while it is borrowed here.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed where other tasks run.
            runtime.shutdown_background();
        }
    }
}
