//! `Discovery`: where a program asks who provides a service, and watches.

mod builder;
mod shared;

use std::sync::Arc;

use muster_schemas::ServiceName;

pub use builder::Builder;
#[cfg(any(test, feature = "fake"))]
pub(crate) use shared::Source;
pub(crate) use shared::{Open, Opened, Shared};

use crate::core::io::Scope;
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::watch::Watch;

/// Finds instances. Cheap to clone; all clones share one connection and one view per service.
///
/// The connection and its task end with the last clone and the last [`Watch`].
///
/// ```no_run
/// # async fn example() -> Result<(), muster_discovery::Error> {
/// use muster_discovery::{Answer, Discovery};
///
/// let discovery = Discovery::connect("nats://127.0.0.1:4222").await?;
/// let orders = discovery.instances("orders").await?;
/// match orders.answer() {
///     Answer::Instances(list) => list.instances().for_each(|instance| println!("{}", instance.id())),
///     Answer::ProvenEmpty => println!("nobody provides orders"),
///     Answer::UnknownSince(since, last) => println!("not confirmed since {since}: {} instances then", last.len()),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

impl Discovery {
    /// Connects to the broker at `server` (or several, separated by commas) with the namespace `default`.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(server: impl Into<String>) -> Result<Self, Error> {
        Self::builder().server(server).connect().await
    }

    /// Settings before connecting.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The instances of a service, now.
    ///
    /// The first call for a service opens a view, which then is kept up to date: every further call only reads. The first
    /// waits for the registries, at most for the builder's `patience`; without an answer by then the snapshot says since
    /// when its list, which may be empty, is unknown.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName); [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if nothing
    /// is known because the broker refused a subject; [`Closed`](crate::ErrorKind::Closed).
    pub async fn instances(&self, service: impl AsRef<str>) -> Result<Arc<Snapshot>, Error> {
        self.read(Scope::Service(ServiceName::new(service.as_ref())?)).await
    }

    /// The instances of all services, now. As [`Discovery::instances`]; the view costs what the whole catalog costs.
    ///
    /// # Errors
    /// As [`Discovery::instances`].
    pub async fn all_instances(&self) -> Result<Arc<Snapshot>, Error> {
        self.read(Scope::Everything).await
    }

    async fn read(&self, scope: Scope) -> Result<Arc<Snapshot>, Error> {
        let feed = self.shared.feed(scope).await?;
        feed.listed().await;
        let snapshot = feed.snapshot();
        self.shared.check_permissions(&snapshot)?;
        Ok(snapshot)
    }

    /// Follows a service: first its whole list, then every difference.
    ///
    /// ```no_run
    /// # async fn example(discovery: muster_discovery::Discovery) -> Result<(), muster_discovery::Error> {
    /// use muster_discovery::{Change, Update};
    ///
    /// let mut orders = discovery.watch("orders")?.routable();
    /// while let Some(update) = orders.next().await {
    ///     match update {
    ///         Update::List(list) => println!("{} instances to begin with", list.len()),
    ///         Update::Change(Change::Removed { before, why }) => println!("{} went: {:?}", before.id(), why.cause),
    ///         Update::Change(change) => println!("{change}"),
    ///         Update::State(state) => println!("the list is {state}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName).
    pub fn watch(&self, service: impl AsRef<str>) -> Result<Watch, Error> {
        Ok(self.follow(Scope::Service(ServiceName::new(service.as_ref())?)))
    }

    /// Follows all services.
    pub fn watch_all(&self) -> Watch {
        self.follow(Scope::Everything)
    }

    fn follow(&self, scope: Scope) -> Watch {
        let shared = self.shared.clone();
        Watch::new(Box::pin(async move {
            let feed = shared.feed(scope).await.ok()?;
            Some(Opened { feed, shared })
        }))
    }
}
