//! A fault injector between registry and consumer: passes changes and pulses on under another prefix, and loses, repeats
//! and shuffles them. Questions pass unharmed.

use std::time::Duration;

use async_nats::{Client, Message};
use futures::StreamExt;
use tokio::task::JoinHandle;

/// Messages held back at most, to be passed on in another order.
const HELD_MAX: usize = 8;
/// How long a message is held back at most, in tenths of a second.
const HOLD: Duration = Duration::from_millis(100);

/// Dropping it ends it.
pub(crate) struct Relay {
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The prefix under which a consumer finds the harmed messages.
pub(crate) const PREFIX: &str = "lossy";

impl Relay {
    /// Loses, repeats, shuffles, each a fifth of all messages, in an order given by the seed.
    pub(crate) async fn start(client: Client, seed: u64) -> Self {
        let changes = client.subscribe("muster.default.change.>").await.expect("subscribed");
        let pulses = client.subscribe("muster.default.pulse.>").await.expect("subscribed");
        let questions = client.subscribe(format!("{PREFIX}.default.query.>")).await.expect("subscribed");
        let inbox = client.new_inbox();
        let mut back = client.subscribe(inbox.clone()).await.expect("subscribed");
        client.publish(inbox, "x".into()).await.expect("published");
        back.next().await.expect("a round trip");
        let task = tokio::spawn(async move {
            let mut harm = Harm { state: seed, held: Vec::new() };
            let mut messages = futures::stream::select(changes, pulses);
            let mut questions = questions;
            let mut ticks = tokio::time::interval(HOLD);
            loop {
                let out = tokio::select! {
                    Some(message) = messages.next() => harm.take(message),
                    Some(question) = questions.next() => {
                        pass_on_question(&client, question).await;
                        continue;
                    }
                    _ = ticks.tick() => std::mem::take(&mut harm.held),
                };
                for message in out {
                    let subject = message.subject.replacen("muster", PREFIX, 1);
                    client.publish(subject, message.payload).await.expect("published");
                }
            }
        });
        Self { task }
    }
}

async fn pass_on_question(client: &Client, question: Message) {
    let subject = question.subject.replacen(PREFIX, "muster", 1);
    if let Some(reply) = question.reply {
        client.publish_with_reply(subject, reply, question.payload).await.expect("published");
    }
}

struct Harm {
    state: u64,
    held: Vec<Message>,
}

impl Harm {
    fn random(&mut self, below: u64) -> u64 {
        // A linear congruential generator (Knuth's MMIX constants): good enough for choosing among five.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    /// What is passed on now.
    fn take(&mut self, message: Message) -> Vec<Message> {
        match self.random(5) {
            0 => Vec::new(),
            1 => vec![message.clone(), message],
            2 | 3 => {
                self.held.push(message);
                if self.held.len() < HELD_MAX {
                    return Vec::new();
                }
                let index = usize::try_from(self.random(HELD_MAX as u64)).expect("small");
                vec![self.held.swap_remove(index)]
            }
            _ => vec![message],
        }
    }
}
