//! ULIDs that Muster mints: epochs, sessions, incarnations. Compared as numbers; a later one is larger.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::wide::Wide;

/// A text that is not a ULID in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a ULID: expected 26 characters of Crockford's base 32 in upper case")]
pub struct IdError {
    /// The text, cut to 64 characters.
    pub value: String,
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Wide);

        impl $type {
            /// An id from milliseconds since 1970 (48 bits used) and randomness (80 bits used).
            #[must_use]
            pub fn from_parts(time_ms: u64, random: u128) -> Self {
                Self(Wide::new(Ulid::from_parts(time_ms, random).0))
            }

            fn ulid(&self) -> Ulid {
                Ulid(self.0.get())
            }

            /// Milliseconds since 1970 that the id was minted from.
            #[must_use]
            pub fn time_ms(&self) -> u64 {
                self.ulid().timestamp_ms()
            }

            /// Its text, written into a buffer.
            pub(crate) fn text<'a>(&self, buffer: &'a mut [u8; ulid::ULID_LEN]) -> &'a str {
                self.ulid().array_to_str(buffer)
            }

            /// The id just above this one; the largest stays itself.
            #[must_use]
            pub fn next(&self) -> Self {
                Self(Wide::new(self.0.get().saturating_add(1)))
            }

            /// A new id: from the clock and randomness, but above `largest_known` in any case, so that a clock that
            /// was set back does not hold anybody up. Random then, too: two that know the same must not mint the same.
            #[must_use]
            pub fn mint(now_ms: u64, random: u128, largest_known: Option<Self>) -> Self {
                let own = Self::from_parts(now_ms, random);
                match largest_known.filter(|largest| own <= *largest) {
                    Some(largest) => Self::from_parts(largest.time_ms() + 1, random).max(largest.next()),
                    None => own,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.text(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let refused = || IdError { value: text.chars().take(64).collect() };
                let id = Ulid::from_string(text).map_err(|_| refused())?;
                if id.array_to_str(&mut [0; ulid::ULID_LEN]) == text { Ok(Self(Wide::new(id.0))) } else { Err(refused()) }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str("a ULID in upper case")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }

        #[cfg(feature = "json-schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "description": "A ULID in upper case." })
            }
        }
    };
}

ulid_id!(
    /// One unbroken log.
    EpochId
);
ulid_id!(
    /// One life of an agent.
    SessionId
);
ulid_id!(
    /// One vouching for an instance, minted when it begins.
    Incarnation
);
