//! The works, in the order in which they are measured.

mod registration;
mod rate;
mod heartbeat;
mod query;
pub(crate) mod catalog;
pub(crate) mod fleet;
mod idle;
mod view;
mod fan_out;
mod crash;
mod storm;
mod broker_return;

use std::path::PathBuf;
use std::pin::Pin;

use anyhow::Result;

use crate::report::Report;

/// What all works are told.
#[derive(Debug, Clone)]
pub(crate) struct Context<'a> {
    pub(crate) quick: bool,
    pub(crate) peers: &'a [String],
    pub(crate) etcd: Option<PathBuf>,
}

impl Context<'_> {
    /// The full size, or the one for `--quick`.
    pub(crate) fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.peers.iter().any(|wanted| wanted == peer)
    }

    /// The etcd to measure, if it is wanted; one that is wanted and not there is reported.
    pub(crate) fn etcd(&self, report: &mut Report) -> Option<PathBuf> {
        if !self.wants("etcd") {
            return None;
        }
        if self.etcd.is_none() && report.missing.iter().all(|missing| missing.what != "etcd") {
            report.missing("etcd", "not installed: `cargo xtask bench --setup` fetches it where PyPI has it");
        }
        self.etcd.clone()
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One work.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// Whether one thread sends and receives. Where each message is waited for a second one only has to be woken, which
    /// takes as long as the path that is measured; where the load is the question there is one for each core.
    pub(crate) one_thread: bool,
    pub(crate) run: for<'a> fn(Context<'a>, &'a mut Report) -> Running<'a>,
}

/// All of them.
pub(crate) const ALL: &[Work] = &[
    Work {
        name: "registration to consumer",
        one_thread: true,
        run: |context, report| Box::pin(registration::run(context, report)),
    },
    Work { name: "registration rate", one_thread: false, run: |context, report| Box::pin(rate::run(context, report)) },
    Work {
        name: "heartbeat rate",
        one_thread: false,
        run: |context, report| Box::pin(heartbeat::run(context, report)),
    },
    Work { name: "query", one_thread: false, run: |context, report| Box::pin(query::run(context, report)) },
    Work { name: "catalog", one_thread: false, run: |context, report| Box::pin(catalog::run(context, report)) },
    Work { name: "simulated fleet", one_thread: false, run: |context, report| Box::pin(fleet::run(context, report)) },
    Work { name: "agent, idle", one_thread: false, run: |context, report| Box::pin(idle::run(context, report)) },
    Work { name: "view", one_thread: false, run: |context, report| Box::pin(view::run(context, report)) },
    Work { name: "fan-out", one_thread: false, run: |context, report| Box::pin(fan_out::run(context, report)) },
    Work { name: "crash", one_thread: false, run: |context, report| Box::pin(crash::run(context, report)) },
    Work { name: "storm", one_thread: false, run: |context, report| Box::pin(storm::run(context, report)) },
    Work {
        name: "return of the broker",
        one_thread: false,
        run: |context, report| Box::pin(broker_return::run(context, report)),
    },
];
