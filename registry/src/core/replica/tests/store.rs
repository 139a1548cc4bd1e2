//! The store for checkpoints and the replicas' local disks, simulated.

use std::collections::{BTreeMap, BTreeSet};

use muster_schemas::Revision;

use super::world::{Stream, World};
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::io::{Effect, Input, Loaded, Trim};
use crate::core::replica::Keeping;

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) checkpoints: BTreeMap<Revision, Checkpoint>,
    /// Those of them that cannot be read.
    pub(super) broken: BTreeSet<Revision>,
    /// All of them were written by a later version.
    pub(super) foreign: bool,
    /// It does not answer.
    pub(super) is_down: bool,
    /// It takes nothing.
    pub(super) is_full: bool,
    /// What the replicas keep on their disks.
    pub(super) states: BTreeMap<usize, Checkpoint>,
    pub(super) trims: Vec<Trim>,
    pub(super) loads: Vec<Revision>,
}

#[derive(Debug)]
pub(super) enum Answer {
    Listed(u64, Option<Vec<Revision>>),
    Loaded(u64, Result<Box<Checkpoint>, String>, bool),
    Foreign(u64),
    Saved(u64, Option<u64>),
    Trimmed(u64),
    StateSaved,
}

impl Store {
    pub(super) fn perform(&mut self, node: usize, effect: Effect, stream: Option<&mut Stream>) -> Option<Answer> {
        match effect {
            Effect::ListCheckpoints { list } => {
                let all = (!self.is_down).then(|| self.checkpoints.keys().copied().collect());
                Some(Answer::Listed(list, all))
            }
            Effect::LoadCheckpoint { load, checkpoint } => {
                self.loads.push(checkpoint);
                let found = self.checkpoints.get(&checkpoint).filter(|_| !self.broken.contains(&checkpoint));
                let found = found.cloned().map(Box::new).ok_or_else(|| "corrupt".to_owned());
                if self.foreign {
                    return Some(Answer::Foreign(load));
                }
                Some(Answer::Loaded(load, found, self.is_down))
            }
            Effect::SaveCheckpoint { save, checkpoint } if self.is_down || self.is_full => {
                drop(checkpoint);
                Some(Answer::Saved(save, None))
            }
            Effect::SaveCheckpoint { save, checkpoint } => {
                self.checkpoints.insert(checkpoint.revision(), *checkpoint);
                Some(Answer::Saved(save, Some(1_000)))
            }
            Effect::DeleteCheckpoints(surplus) => {
                for checkpoint in surplus {
                    self.checkpoints.remove(&checkpoint);
                }
                None
            }
            Effect::TrimLog(trim) => {
                let stream = stream.expect("a stream");
                let stands = |event: &&super::world::Stored| event.sequence == trim.below && event.at == trim.mark.at;
                assert!(stream.events.iter().find(stands).is_some(), "the event at the bound is there");
                let is_old = |at| trim.since.is_some_and(|since| at < since);
                let old = stream.events.iter().filter(|event| event.sequence < trim.below && is_old(event.at));
                let first_kept = old.map(|event| event.sequence + 1).max().unwrap_or(stream.first_sequence);
                let events = first_kept - stream.first_sequence;
                stream.purge_below(first_kept);
                self.trims.push(trim);
                Some(Answer::Trimmed(events))
            }
            Effect::SaveState(checkpoint) => {
                self.states.insert(node, *checkpoint);
                Some(Answer::StateSaved)
            }
            other => panic!("not an effect of the store: {other:?}"),
        }
    }
}

pub(super) fn input(answer: &Answer) -> Input<'_> {
    match answer {
        Answer::Listed(list, checkpoints) => {
            Input::CheckpointsListed { list: *list, checkpoints: checkpoints.as_deref() }
        }
        Answer::Loaded(load, _, true) => Input::CheckpointLoaded { load: *load, found: Loaded::Unreachable("down") },
        Answer::Loaded(load, Ok(checkpoint), _) => {
            Input::CheckpointLoaded { load: *load, found: Loaded::Whole(checkpoint) }
        }
        Answer::Loaded(load, Err(reason), _) => Input::CheckpointLoaded { load: *load, found: Loaded::Broken(reason) },
        Answer::Foreign(load) => {
            let found = Loaded::Foreign("its fold version is 2, which this software does not have: upgrade it");
            Input::CheckpointLoaded { load: *load, found }
        }
        Answer::Saved(save, bytes) => Input::CheckpointSaved { save: *save, bytes: *bytes },
        Answer::Trimmed(events) => Input::LogTrimmed { events: Some(*events) },
        Answer::StateSaved => Input::StateSaved { saved: true },
    }
}

impl World {
    /// Starts a replica that keeps what it is told to keep, and has on its disk what another one left there.
    pub(super) fn start_keeping(&mut self, keeping: Keeping, remembered: Option<Checkpoint>) -> usize {
        let index = self.start_replica();
        let replica = &mut self.nodes[index].replica;
        replica.keep(keeping);
        if let Some(remembered) = remembered {
            replica.remember(remembered);
        }
        index
    }

    /// The process of a replica ends in an orderly way; what is on its disk then.
    pub(super) fn stop_orderly(&mut self, index: usize) -> Option<Checkpoint> {
        if let Some(checkpoint) = self.nodes[index].replica.state_to_keep() {
            self.store.states.insert(index, checkpoint);
        }
        self.nodes[index].stopped = true;
        self.store.states.get(&index).cloned()
    }

    pub(super) fn reports_of(&self, index: usize) -> String {
        let lines: Vec<_> = self.nodes[index].reports.iter().map(|(_, text)| text.as_str()).collect();
        lines.join("\n")
    }
}
