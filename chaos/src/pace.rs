//! How long the system keeps agents waiting for a processor: what they do not do meanwhile is not theirs to answer for.

use std::collections::BTreeMap;
use std::fs;

use crate::stage::Stage;

/// An agent that waited for more than this between two looks was starved: a heartbeat of it may be late.
const STARVED_MS: u64 = 250;

/// How long each agent's process has waited so far.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waited: BTreeMap<String, (u32, u64)>,
}

impl Pace {
    /// Keys of the agents that were starved since the last look.
    pub(crate) fn starved(&mut self, stage: &Stage) -> Vec<String> {
        let mut starved = Vec::new();
        for supervised in &stage.agents {
            let Some(pid) = supervised.agent.pid() else { continue };
            let waited_ms = waited_ms(pid);
            let before = self.waited.insert(supervised.key.clone(), (pid, waited_ms));
            if before.is_some_and(|(same, before_ms)| same == pid && waited_ms > before_ms + STARVED_MS) {
                starved.push(supervised.key.clone());
            }
        }
        starved
    }
}

/// What the threads of a process have waited for a processor in all; 0 where the system does not tell.
fn waited_ms(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waited_ns = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    });
    waited_ns.sum::<u64>() / 1_000_000
}
