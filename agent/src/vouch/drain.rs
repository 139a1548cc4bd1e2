//! An operator's wish that an instance be taken out and stopped.

use async_nats::{Client, Subject};
use muster_schemas::agent::{DrainReply, DrainRequest};

/// A request to drain an instance of this agent.
#[derive(Debug)]
pub struct Drain {
    /// What is asked.
    pub request: DrainRequest,
    pub(super) client: Client,
    pub(super) reply: Option<Subject>,
}

impl Drain {
    /// One that nobody waits for.
    #[cfg(test)]
    pub(crate) fn of_nobody(request: DrainRequest, client: Client) -> Self {
        Self { request, client, reply: None }
    }

    /// Tells whoever asked how far it is; can be called again until the result.
    pub async fn tell(&self, reply: DrainReply) {
        let Some(subject) = self.reply.clone() else { return };
        let Ok(payload) = serde_json::to_vec(&reply) else { return };
        // Who does not hear it asks the registry what became of the instance.
        let _ = self.client.publish(subject, payload.into()).await;
    }
}
