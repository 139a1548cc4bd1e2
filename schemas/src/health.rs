//! What an instance's checks say of it.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::limits::{CHECK_OUTPUT_BYTES_MAX, CHECKS_MAX, TEXT_BYTES_MAX};
use crate::object::object;
use crate::refusal::Refusal;
use crate::text::Text;
use crate::tight::Tight;
use crate::timestamp::Timestamp;

/// From good to bad; `passing` and `warning` may be routed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Works.
    #[default]
    Passing,
    /// Works, with reservations.
    Warning,
    /// Does not work.
    Critical,
}

impl HealthStatus {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An instance's health: the worst of its checks, and the checks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// What it rests on; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: Extra,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// Unique within the instance.
    pub id: Text,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// `http`, `tcp`, or whatever the agent runs.
    pub kind: Text,
    /// Its verdict.
    pub status: HealthStatus,
    /// The last output, at most 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Text>,
    /// When the verdict last changed, by the agent's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: Extra,
}

object!(
    Health {
        need status: HealthStatus,
        may checks: Tight<Check> = Tight::default(),
        rest extra,
    } => Health { status, checks: checks.0, extra }
);

object!(
    Check {
        need id: Text,
        need kind: Text,
        need status: HealthStatus,
        may name: Option<Text> = None,
        may output: Option<Text> = None,
        may changed_at: Option<Timestamp> = None,
        rest extra,
    } => Check { id, name, kind, status, output, changed_at, extra }
);

impl Health {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first field over its limit.
    pub fn validate(&self) -> Result<(), Refusal> {
        if self.checks.len() > CHECKS_MAX {
            return Err(Refusal::too_large("health.checks", self.checks.len(), CHECKS_MAX));
        }
        for check in &self.checks {
            let output = check.output.as_ref().map_or(0, |output| output.len());
            if output > CHECK_OUTPUT_BYTES_MAX {
                return Err(Refusal::too_large("health.checks.output", output, CHECK_OUTPUT_BYTES_MAX));
            }
            for (field, text) in [("health.checks.id", &check.id), ("health.checks.kind", &check.kind)] {
                if text.len() > TEXT_BYTES_MAX {
                    return Err(Refusal::too_large(field, text.len(), TEXT_BYTES_MAX));
                }
            }
        }
        Ok(())
    }
}
