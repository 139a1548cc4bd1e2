//! The store for checkpoints: it outlives every stream, so that what it holds may be of a log that is no more; and now and
//! then it is broken, or does not answer.

use std::collections::BTreeMap;
use std::rc::Rc;

use muster_registry::core::catalog::checkpoint::Checkpoint;
use muster_registry::core::io::{Effect, Effects, Input, Loaded};
use muster_schemas::Revision;

use super::link::{NodeId, Role};
use super::wire::Work;
use super::world::World;

/// What is in the store.
pub(crate) type Store = BTreeMap<Revision, Rc<Checkpoint>>;

/// What became of a request.
#[derive(Debug, Clone)]
pub(crate) enum Answered {
    Listed(u64, Option<Vec<Revision>>),
    Whole(u64, Rc<Checkpoint>),
    Broken(u64),
    Unreachable(u64),
    Saved(u64, Option<u64>),
}

impl World {
    /// Performs what a registry wants of the store; the answer takes its time.
    pub(crate) fn perform_in_store(&mut self, index: usize, effect: Effect) {
        let output = self.registries[index].link(Role::Output);
        let answers = self.broker.up && self.links[output.0].up && self.random.below(20) > 0;
        let answered = match effect {
            Effect::ListCheckpoints { list } => {
                Answered::Listed(list, answers.then(|| self.broker.checkpoints.keys().copied().collect()))
            }
            Effect::LoadCheckpoint { load, .. } if !answers => Answered::Unreachable(load),
            Effect::LoadCheckpoint { load, checkpoint } => match self.broker.checkpoints.get(&checkpoint) {
                Some(checkpoint) if self.random.below(10) > 0 => Answered::Whole(load, Rc::clone(checkpoint)),
                _ => Answered::Broken(load),
            },
            Effect::SaveCheckpoint { save, .. } if !answers => Answered::Saved(save, None),
            Effect::SaveCheckpoint { save, checkpoint } => {
                self.broker.checkpoints.insert(checkpoint.revision(), Rc::new(*checkpoint));
                Answered::Saved(save, Some(1))
            }
            Effect::DeleteCheckpoints(checkpoints) => {
                for checkpoint in checkpoints {
                    self.broker.checkpoints.remove(&checkpoint);
                }
                return;
            }
            _ => return,
        };
        let at_ms = self.now_ms + self.random.between(1, 300);
        self.remind(NodeId::Registry(index), at_ms, Work::FromStore(answered));
    }

    pub(crate) fn store_answered(&mut self, index: usize, answered: &Answered, effects: &mut Effects) {
        let input = match answered {
            Answered::Listed(list, checkpoints) => {
                Input::CheckpointsListed { list: *list, checkpoints: checkpoints.as_deref() }
            }
            Answered::Whole(load, checkpoint) => {
                self.say(|| format!("r{index} is given a checkpoint of {:?}", checkpoint.revision()));
                Input::CheckpointLoaded { load: *load, found: Loaded::Whole(checkpoint) }
            }
            Answered::Broken(load) => Input::CheckpointLoaded { load: *load, found: Loaded::Broken("broken") },
            Answered::Unreachable(load) => Input::CheckpointLoaded { load: *load, found: Loaded::Unreachable("away") },
            Answered::Saved(save, bytes) => Input::CheckpointSaved { save: *save, bytes: *bytes },
        };
        self.step_replica(index, input, effects);
    }
}
