//! What is listened to: some subjects always, the queue group's only while the replica can answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures::stream::SelectAll;
use futures::{Stream, StreamExt};
use muster_schemas::{ReplicaId, Subjects};

use super::endpoint::{Endpoint, QUEUE_GROUP};
use super::service_api::{ServiceApi, Verb};
use crate::error::RegistryError;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Endpoint(Endpoint),
    Api(Verb),
}

struct Tagged {
    topic: Topic,
    messages: Subscriber,
}

impl Stream for Tagged {
    type Item = (Topic, Message);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let topic = self.topic;
        let message = self.messages.poll_next_unpin(context);
        message.map(|message| message.map(|message| (topic, message)))
    }
}

/// All subscriptions of a replica's answers.
pub(super) struct Subscriptions {
    client: Client,
    subjects: Subjects,
    replica: ReplicaId,
    streams: SelectAll<Tagged>,
    joined: bool,
}

impl Subscriptions {
    pub(super) fn new(client: &Client, subjects: &Subjects, replica: &ReplicaId) -> Self {
        Self {
            client: client.clone(),
            subjects: subjects.clone(),
            replica: replica.clone(),
            streams: SelectAll::new(),
            joined: false,
        }
    }

    /// Whether the replica is in the queue group.
    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }

    /// The next message; `None` once everything was left.
    pub(super) async fn next(&mut self) -> Option<(Topic, Message)> {
        self.streams.next().await
    }

    /// Begins to listen to what needs no catalog.
    pub(super) async fn join_always(&mut self, api: &ServiceApi) -> Result<(), RegistryError> {
        for verb in Verb::ALL {
            for subject in api.subjects(verb) {
                let messages = self.client.subscribe(subject).await.map_err(closed)?;
                let topic = Topic::Api(verb);
                self.streams.push(Tagged { topic, messages });
            }
        }
        for endpoint in Endpoint::ALL {
            if !endpoint.needs_catalog() {
                self.subscribe(endpoint).await?;
            }
        }
        Ok(())
    }

    /// Joins the queue group.
    pub(super) async fn join(&mut self) -> Result<(), RegistryError> {
        for endpoint in Endpoint::ALL {
            if endpoint.needs_catalog() {
                self.subscribe(endpoint).await?;
            }
        }
        self.joined = true;
        Ok(())
    }

    async fn subscribe(&mut self, endpoint: Endpoint) -> Result<(), RegistryError> {
        let subject = endpoint.subject(&self.subjects, &self.replica);
        let messages = if endpoint.is_shared() {
            self.client.queue_subscribe(subject, QUEUE_GROUP.into()).await
        } else {
            self.client.subscribe(subject).await
        };
        self.streams.push(Tagged { topic: Topic::Endpoint(endpoint), messages: messages.map_err(closed)? });
        Ok(())
    }

    /// Leaves the queue group; what was on its way still comes.
    pub(super) async fn leave(&mut self) {
        self.joined = false;
        self.drain(|topic| matches!(topic, Topic::Endpoint(endpoint) if endpoint.needs_catalog())).await;
    }

    /// Leaves everything; what was on its way still comes.
    pub(super) async fn leave_all(&mut self) {
        self.joined = false;
        self.drain(|_| true).await;
    }

    async fn drain(&mut self, which: impl Fn(Topic) -> bool) {
        for tagged in self.streams.iter_mut().filter(|tagged| which(tagged.topic)) {
            // A connection that is closed has left already.
            let _ = tagged.messages.drain().await;
        }
    }
}

fn closed(error: SubscribeError) -> RegistryError {
    RegistryError::Closed { connection: format!("for queries: {error}") }
}
