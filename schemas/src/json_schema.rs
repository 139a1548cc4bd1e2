//! The JSON Schema (draft 7, which AsyncAPI tools read) of every message on the wire.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::event::EventKind;
use crate::{agent, alarm, beacon, change, event, heartbeat, history, instance, pulse, query};

/// A schema's file name without ending, and the schema.
pub type Named = (&'static str, Value);

fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<T>().to_value()
}

fn root(schema: &Schema) -> Value {
    schema.clone().to_value()
}

/// The schema of a kind's CloudEvent: envelope around the data.
fn cloud_event<T: JsonSchema>(kind: EventKind) -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let data = root(&generator.subschema_for::<T>());
    let class = kind.sender_class().as_str();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": kind.type_name(),
        "description": format!("CloudEvent of kind `{}`, at most {} bytes.", kind.token(), kind.bytes_max()),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "minLength": 1, "maxLength": crate::limits::EVENT_ID_BYTES_MAX },
            "source": { "type": "string", "pattern": format!("^/muster/[A-Za-z0-9_-]{{1,32}}/{class}/[A-Za-z0-9_%-]{{1,128}}$") },
            "type": { "const": kind.type_name() },
            "time": { "type": "string", "format": "date-time", "description": "Informative; never folded." },
            "datacontenttype": { "const": "application/json" },
            "data": data,
        },
        "definitions": generator.take_definitions(true),
    })
}

/// All schemas, in the order of their names.
#[must_use]
pub fn all() -> Vec<Named> {
    let mut schemas = vec![
        ("event.register", cloud_event::<instance::Registration>(EventKind::Register)),
        ("event.deregister", cloud_event::<event::Deregistration>(EventKind::Deregister)),
        ("event.health", cloud_event::<event::HealthReport>(EventKind::Health)),
        ("event.expire", cloud_event::<event::Expiry>(EventKind::Expire)),
        ("event.intent", cloud_event::<event::IntentSet>(EventKind::Intent)),
        ("event.lapse", cloud_event::<event::Lapse>(EventKind::Lapse)),
        ("event.epoch", cloud_event::<event::EpochBegan>(EventKind::Epoch)),
        ("event.carry", cloud_event::<event::CarriedOver>(EventKind::Carry)),
        ("event.recovered", cloud_event::<event::Recovered>(EventKind::Recovered)),
        ("event.setting", cloud_event::<event::SettingChanged>(EventKind::Setting)),
        ("heartbeat", of::<heartbeat::Heartbeat>()),
        ("mark", of::<heartbeat::Mark>()),
        ("change", of::<change::Change>()),
        ("pulse", of::<pulse::Pulse>()),
        ("beacon", of::<beacon::Beacon>()),
        ("alarm", of::<alarm::Alarm>()),
        ("query.request", of::<query::Request>()),
        ("query.reply", of::<query::Reply>()),
        ("query.history", of::<history::HistoryReply>()),
        ("query.status", of::<query::Status>()),
        ("query.error", of::<query::ErrorReply>()),
        ("agent.probe.reply", of::<agent::ProbeReply>()),
        ("agent.announce", of::<agent::AnnounceRequest>()),
        ("agent.announce.reply", of::<agent::AnnounceReply>()),
        ("agent.drain", of::<agent::DrainRequest>()),
        ("agent.drain.reply", of::<agent::DrainReply>()),
        ("agent.notice", of::<agent::Notice>()),
    ];
    schemas.sort_by_key(|(name, _)| *name);
    schemas
}
