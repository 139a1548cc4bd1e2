//! Names that people and machines choose, parsed once: services, instances, agents, replicas, operators, namespaces.
//!
//! A name is any text without control characters whose subject token (see [`encode_token`]) has 1 to 128 bytes. Names are
//! compared as bytes: no case folding, no Unicode normalisation.

use std::fmt;
use std::str::FromStr;

use arcstr::ArcStr;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{NAMESPACE_BYTES_MAX, TOKEN_BYTES_MAX};

/// What stays as it is in a subject token: `[A-Za-z0-9_-]`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// The token that stands for "no service" and "no instance" in log-wide subjects, and so is no name.
pub const NO_NAME: &str = "-";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("{what} is empty: give it at least one character")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// The text is `-`, which stands for "none" in subjects.
    #[error("{what} \"-\" is reserved: choose another")]
    Reserved {
        /// Which kind of name.
        what: &'static str,
    },
    /// The text holds a control character.
    #[error("{what} {value:?} holds a control character: remove it")]
    Control {
        /// Which kind of name.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// The token is too long.
    #[error("{what} {value:?} has {bytes} bytes after percent-encoding, the limit is {max}: choose a shorter one")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// The text, cut to 64 characters.
        value: String,
        /// Length of the token.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The text holds a character that this kind of name does not allow.
    #[error("{what} {value:?} may hold only {allowed}")]
    Characters {
        /// Which kind of name.
        what: &'static str,
        /// The text.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A subject token that the encoder would not have produced.
    #[error(
        "subject token {value:?} is not in canonical percent-encoding: encode every byte outside [A-Za-z0-9_-] as %XX in upper case"
    )]
    NotCanonical {
        /// The token.
        value: String,
    },
}

/// The subject token of a name: every byte outside `[A-Za-z0-9_-]` as `%XX` in upper-case hex.
#[must_use]
pub fn encode_token(name: &str) -> String {
    utf8_percent_encode(name, ENCODED).to_string()
}

/// The name of a subject token; refuses an encoding that [`encode_token`] would not produce.
///
/// # Errors
/// [`NameError::NotCanonical`].
pub fn decode_token(token: &str) -> Result<String, NameError> {
    if is_plain(token) {
        return Ok(token.to_owned());
    }
    let not_canonical = || NameError::NotCanonical { value: shorten(token) };
    let name = percent_decode_str(token).decode_utf8().map_err(|_| not_canonical())?;
    if encode_token(&name) == token { Ok(name.into_owned()) } else { Err(not_canonical()) }
}

/// Nothing in it needs encoding: it is its own token. Nearly all names are.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    if is_plain(text) && (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text != NO_NAME {
        return Ok(());
    }
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text == NO_NAME {
        return Err(NameError::Reserved { what });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control { what, value: shorten(text) });
    }
    let bytes = utf8_percent_encode(text, ENCODED).map(str::len).sum();
    if bytes > TOKEN_BYTES_MAX {
        return Err(NameError::TooLong { what, value: shorten(text), bytes, max: TOKEN_BYTES_MAX });
    }
    Ok(())
}

fn check_plain(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > NAMESPACE_BYTES_MAX {
        let value = shorten(text);
        return Err(NameError::TooLong { what, value, bytes: text.len(), max: NAMESPACE_BYTES_MAX });
    }
    if !is_plain(text) {
        return Err(NameError::Characters { what, value: shorten(text), allowed: "A-Z a-z 0-9 _ -" });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:path, $schema_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(ArcStr);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            /// [`NameError`], which says what is wrong and what to do.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check($what, text)?;
                Ok(Self(crate::text::shared(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as a subject token.
            #[must_use]
            pub fn token(&self) -> String {
                encode_token(&self.0)
            }

            /// Parses a subject token.
            ///
            /// # Errors
            /// [`NameError`], also for an encoding that the encoder would not produce.
            pub fn from_token(token: &str) -> Result<Self, NameError> {
                if is_plain(token) { Self::new(token) } else { Self::new(&decode_token(token)?) }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), out)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str(concat!("a ", $what))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        $type::new(text).map_err(E::custom)
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
                schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": $schema_max, "description": concat!("A ", $what, ".") })
            }
        }
    };
}

name!(
    /// A name that many instances provide.
    ServiceName, "service name", check, TOKEN_BYTES_MAX
);
name!(
    /// One provider of a service, unique within it.
    InstanceId, "instance id", check, TOKEN_BYTES_MAX
);
name!(
    /// The process that vouches for instances.
    AgentId, "agent id", check, TOKEN_BYTES_MAX
);
name!(
    /// One registry process.
    ReplicaId, "replica id", check, TOKEN_BYTES_MAX
);
name!(
    /// Who operates: a person or a tool that sets intents.
    OperatorName, "operator name", check, TOKEN_BYTES_MAX
);
name!(
    /// A tenant or environment: one stream, one subject tree, `[A-Za-z0-9_-]{1,32}`.
    Namespace, "namespace", check_plain, NAMESPACE_BYTES_MAX
);
name!(
    /// The first token of every subject, `[A-Za-z0-9_-]{1,32}`; `muster` unless configured.
    Prefix, "subject prefix", check_plain, NAMESPACE_BYTES_MAX
);

impl Default for Namespace {
    fn default() -> Self {
        Self(ArcStr::from("default"))
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(ArcStr::from("muster"))
    }
}
