//! For tests of programs that use this library: a `Discovery` whose instances the test sets, without a broker.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use muster_discovery::fake::{FakeDiscovery, instance};
//! use muster_discovery::{Change, Update, schemas::Cause};
//!
//! let fake = FakeDiscovery::new();
//! fake.put(instance("orders", "web1-8080")?);
//!
//! // What the program under test would be given:
//! let discovery = fake.discovery();
//! assert_eq!(discovery.instances("orders").await?.len(), 1);
//! assert!(discovery.instances("users").await?.is_proven_empty());
//!
//! let mut watch = discovery.watch("orders")?;
//! assert!(matches!(watch.next().await, Some(Update::List(list)) if list.len() == 1));
//! fake.remove("orders", "web1-8080", Cause::Expired);
//! let Some(Update::Change(Change::Removed { before, why })) = watch.next().await else { panic!("not removed") };
//! assert_eq!((before.id().as_str(), why.cause), ("web1-8080", Cause::Expired));
//!
//! fake.lose_sight();
//! assert!(matches!(watch.next().await, Some(Update::State(state)) if state.is_unknown()));
//! # Ok(()) }
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_schemas::entry::Evidence;
use muster_schemas::{
    AgentId, Cause, Digest, EpochId, Incarnation, Instance, InstanceId, Registration, Revision, ServiceName, SessionId,
    Vouching,
};

use crate::change::{Change, Why};
use crate::clock::Clock;
use crate::core::io::Scope;
use crate::core::view::timestamp;
use crate::discovery::{Discovery, Shared, Source};
use crate::error::Error;
use crate::feed::{Feed, What};
use crate::snapshot::{Lists, Snapshot, State};

/// An instance with nothing but its names: passing, weight 100, no endpoints. Change its fields as the test needs.
///
/// # Errors
/// [`InvalidName`](crate::ErrorKind::InvalidName).
pub fn instance(service: &str, id: &str) -> Result<Instance, Error> {
    let vouching = Vouching {
        service: ServiceName::new(service)?,
        instance: InstanceId::new(id)?,
        agent: AgentId::new("fake")?,
        session: SessionId::from_parts(0, 1),
        incarnation: Incarnation::from_parts(0, 1),
        generation: 1,
    };
    let registration = Registration::bare(vouching, 10_000, 0);
    Ok(Instance { registration, created_revision: 0, modified_revision: 0, maintenance: None })
}

/// A source of instances in memory. Starts verified and empty.
#[derive(Debug)]
pub struct FakeDiscovery {
    instances: Instances,
    shared: Arc<Shared>,
}

/// What the fake holds, shared with the `Discovery`.
#[derive(Debug, Clone)]
pub(crate) struct Instances(Arc<Mutex<Held>>);

#[derive(Debug)]
struct Held {
    clock: Clock,
    epoch: EpochId,
    revision: u64,
    lists: Lists,
    state: State,
}

impl Default for FakeDiscovery {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeDiscovery {
    /// No instances, verified.
    #[must_use]
    pub fn new() -> Self {
        let clock = Clock::start();
        let epoch = EpochId::from_parts(clock.now_ms(), 0);
        let held = Held { clock, epoch, revision: 0, lists: Lists::new(), state: State::Verified };
        let instances = Instances(Arc::new(Mutex::new(held)));
        let shared = Arc::new(Shared::new(Source::Fake(instances.clone()), clock, Duration::ZERO));
        Self { instances, shared }
    }

    /// What the program under test is given.
    #[must_use]
    pub fn discovery(&self) -> Discovery {
        Discovery::of(self.shared.clone())
    }

    /// Adds an instance, or replaces the one with its name; the cause is `registered` or `updated`. Its revisions are set.
    pub fn put(&self, instance: Instance) {
        let (service, id) = (instance.service().clone(), instance.id().clone());
        let is_there = self.instances.held().lists.get(&service).is_some_and(|list| list.instances.contains_key(&id));
        let cause = if is_there { Cause::Updated } else { Cause::Registered };
        self.change(&service, &id, Some(instance), cause);
    }

    /// Removes an instance for a cause; without effect if there is none.
    pub fn remove(&self, service: &str, id: &str, cause: Cause) {
        if let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) {
            self.change(&service, &id, None, cause);
        }
    }

    /// From now on nothing is verified, as when the broker is gone; the lists stay.
    pub fn lose_sight(&self) {
        let mut held = self.instances.held();
        if held.state == State::Verified {
            held.state = State::Unknown { since: timestamp(held.clock.now_ms()) };
            self.publish(&held, || vec![What::State(held.state)], |_| true);
        }
    }

    /// From now on the lists are verified again.
    pub fn regain_sight(&self) {
        let mut held = self.instances.held();
        if held.state != State::Verified {
            held.state = State::Verified;
            self.publish(&held, || vec![What::State(State::Verified)], |_| true);
        }
    }

    fn change(&self, service: &ServiceName, id: &InstanceId, value: Option<Instance>, cause: Cause) {
        let mut held = self.instances.held();
        held.revision += 1;
        let revision = held.revision;
        let mut list = held.lists.get(service).cloned().unwrap_or_default();
        let before = list.instances.get(id).cloned();
        let after = value.map(|mut value| {
            value.created_revision = before.as_ref().map_or(revision, |before| before.created_revision);
            value.modified_revision = revision;
            Arc::new(value)
        });
        match &after {
            Some(value) => drop(list.instances.insert(id.clone(), value.clone())),
            None => drop(list.instances.remove(id)),
        }
        let items = list.instances.iter().map(|(id, value)| Digest::of_instance(id, value.modified_revision));
        list.digest = items.sum();
        list.revision = revision;
        list.complete_through = revision;
        held.lists.insert(service.clone(), list);
        let why = Why {
            cause,
            actor: "agent/fake".to_owned(),
            at: timestamp(held.clock.now_ms()),
            revision: Some(Revision(held.epoch, revision)),
            evidence: Some(Evidence::default()),
            conflicts: Vec::new(),
        };
        if let Some(change) = Change::between(before, after, || why.into()) {
            self.publish(&held, || vec![What::Change(change.clone())], |scope| scope.covers(service));
        }
    }

    fn publish(&self, held: &Held, steps: impl Fn() -> Vec<What>, is_about: impl Fn(&Scope) -> bool) {
        for feed in self.shared.feeds().iter().filter(|feed| is_about(&feed.scope)) {
            feed.publish(held.snapshot(&feed.scope), steps(), true);
        }
    }
}

impl Instances {
    fn held(&self) -> MutexGuard<'_, Held> {
        // A test that panicked elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self, scope: &Scope) -> Snapshot {
        self.held().snapshot(scope)
    }

    /// Gives a new feed what is there now; it may have changed since the feed was made.
    pub(crate) fn publish_first(&self, feed: &Feed) {
        let held = self.held();
        feed.publish(held.snapshot(&feed.scope), Vec::new(), true);
    }
}

impl Held {
    fn snapshot(&self, scope: &Scope) -> Snapshot {
        let lists = match scope {
            Scope::Everything => self.lists.clone(),
            Scope::Service(service) => {
                self.lists.get(service).map(|list| (service.clone(), list.clone())).into_iter().collect()
            }
        };
        Snapshot {
            lists,
            state: self.state,
            revision: Some(Revision(self.epoch, self.revision)),
            confirmed_at: Some(timestamp(self.clock.now_ms())),
            serial: 0,
        }
    }
}

#[cfg(test)]
mod tests;
