//! One run of a command: its connection to the broker, the subjects of its namespace, and how it prints.

use async_nats::Client;
use muster_runtime::broker::{BrokerSettings, Connection, Role};
use muster_runtime::output::print_line;
use muster_schemas::Subjects;
use serde::Serialize;

use crate::error::CommandError;

/// A connected command.
pub(crate) struct Session {
    connection: Connection,
    subjects: Subjects,
    json: bool,
}

impl Session {
    /// Connects, within about a second.
    pub(crate) async fn connect(broker: &BrokerSettings, json: bool, command: &str) -> Result<Self, CommandError> {
        Self::connect_as(broker, json, Role::new(format!("muster {command}"))).await
    }

    /// The same, for a command that needs more than a plain connection.
    pub(crate) async fn connect_as(broker: &BrokerSettings, json: bool, role: Role) -> Result<Self, CommandError> {
        let connection = broker.connect(role).await?;
        let subjects = Subjects::new(broker.prefix.clone(), broker.namespace.clone());
        Ok(Self { connection, subjects, json })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn client(&self) -> &Client {
        self.connection.client()
    }

    pub(crate) fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints the value as JSON for programs, or else whatever `people` makes of it.
    pub(crate) fn print<T: Serialize>(&self, value: &T, people: impl FnOnce() -> String) {
        if self.json { print_json(value) } else { print_line(&people()) }
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) {
    // Plain data with string keys cannot fail to serialise.
    print_line(&serde_json::to_string(value).unwrap_or_default());
}
