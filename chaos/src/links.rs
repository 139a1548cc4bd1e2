//! The observer's own connections, one to each broker: whichever answers will do.

use std::cell::Cell;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Message};
use tokio::time::timeout;

/// What a question may take until it is put to another broker.
const PATIENCE: Duration = Duration::from_millis(2_500);
const RECONNECT: Duration = Duration::from_millis(200);
const PING: Duration = Duration::from_secs(1);

/// The connections.
#[derive(Debug)]
pub(crate) struct Links {
    clients: Vec<Client>,
    preferred: Cell<usize>,
}

impl Links {
    pub(crate) async fn connect(urls: &[String]) -> Self {
        let mut clients = Vec::new();
        for url in urls {
            let options = ConnectOptions::new().ping_interval(PING).reconnect_delay_callback(|_| RECONNECT);
            let client = options.retry_on_initial_connect().connect(url.as_str()).await;
            clients.push(client.unwrap_or_else(|error| panic!("{url} is no address: {error}")));
        }
        Self { clients, preferred: Cell::new(0) }
    }

    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Asks over one broker; after a failure the next question goes over another.
    pub(crate) async fn ask(&self, subject: &str, payload: Vec<u8>) -> Result<Message, String> {
        let count = self.clients.len();
        let preferred = self.preferred.get();
        let connected = |index: &usize| self.clients[*index].connection_state() == State::Connected;
        let chosen = (0..count).map(|step| (preferred + step) % count).find(connected);
        let chosen = chosen.ok_or("no broker is connected")?;
        self.preferred.set(chosen);
        let asked = timeout(PATIENCE, self.clients[chosen].request(subject.to_owned(), payload.into())).await;
        let answer = match asked {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer in {PATIENCE:?}")),
        };
        if answer.is_err() {
            self.preferred.set((chosen + 1) % count);
        }
        answer
    }

    /// The last answer was of no use: the next question goes over another broker.
    pub(crate) fn try_another(&self) {
        self.preferred.set((self.preferred.get() + 1) % self.clients.len());
    }
}
