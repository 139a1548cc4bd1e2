//! The works, in the order in which they are measured.

mod registration;
mod rate;
mod heartbeat;
mod query;
pub(crate) mod catalog;
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
    pub(crate) run: for<'a> fn(Context<'a>, &'a mut Report) -> Running<'a>,
}

/// All of them.
pub(crate) const ALL: &[Work] = &[
    Work { name: "registration to consumer", run: |context, report| Box::pin(registration::run(context, report)) },
    Work { name: "registration rate", run: |context, report| Box::pin(rate::run(context, report)) },
    Work { name: "heartbeat rate", run: |context, report| Box::pin(heartbeat::run(context, report)) },
    Work { name: "query", run: |context, report| Box::pin(query::run(context, report)) },
    Work { name: "catalog", run: |context, report| Box::pin(catalog::run(context, report)) },
    Work { name: "agent, idle", run: |context, report| Box::pin(idle::run(context, report)) },
    Work { name: "view", run: |context, report| Box::pin(view::run(context, report)) },
    Work { name: "fan-out", run: |context, report| Box::pin(fan_out::run(context, report)) },
    Work { name: "crash", run: |context, report| Box::pin(crash::run(context, report)) },
    Work { name: "storm", run: |context, report| Box::pin(storm::run(context, report)) },
    Work { name: "return of the broker", run: |context, report| Box::pin(broker_return::run(context, report)) },
];
