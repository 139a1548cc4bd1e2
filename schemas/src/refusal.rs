//! Why something on the wire was not accepted, in a form that names field, value and way out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds of refusal that a reader of an event can see by itself, before any state is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// Not JSON, a field missing, wrongly typed, or against a rule.
    Malformed,
    /// Larger than its limit.
    Oversize,
    /// Subject, envelope and data do not name the same sender, service and instance.
    IdentityMismatch,
    /// A type, kind or version that this reader does not know.
    UnknownKind,
}

/// A refusal: what is wrong with which field, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// What kind of refusal.
    pub kind: RefusalKind,
    /// The field, as a path from the top of the message.
    pub field: String,
    /// Its value, cut to 64 characters.
    pub value: String,
    /// What is wrong, and what to do.
    pub help: String,
}

impl Refusal {
    /// A refusal of one field.
    pub fn new(kind: RefusalKind, field: &str, value: impl fmt::Display, help: impl Into<String>) -> Self {
        let value = value.to_string().chars().take(64).collect();
        Self { kind, field: field.to_owned(), value, help: help.into() }
    }

    /// A field against a rule.
    pub fn malformed(field: &str, value: impl fmt::Display, help: impl Into<String>) -> Self {
        Self::new(RefusalKind::Malformed, field, value, help)
    }

    /// A field over its limit.
    #[must_use]
    pub fn too_large(field: &str, size: usize, max: usize) -> Self {
        Self::new(RefusalKind::Oversize, field, size, format!("the limit is {max}: make it smaller"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} = {}: {}", self.field, self.value, self.help)
    }
}

impl std::error::Error for Refusal {}
