//! Order-independent sums of hashes, by which two parties find out that they hold the same without sending it.
//!
//! Each item is hashed with SHA-256 (FIPS 180-4); its first 16 bytes, read as a big-endian number, are added modulo 2^128.
//! An item is removed by subtracting it. Written as 32 hex digits, lower case; all zeros means "nothing".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::id::Incarnation;
use crate::name::{InstanceId, ServiceName};
use crate::wide::Wide;

/// A sum modulo 2^128.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(Wide);

impl Digest {
    /// The digest of nothing.
    pub const ZERO: Self = Self(Wide::ZERO);

    /// One item of a service's digest: an instance and the revision of its last change.
    #[must_use]
    pub fn of_instance(instance: &InstanceId, modified_revision: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(instance.as_str());
        hash.update([0]);
        hash.update(decimal(modified_revision, &mut [0; 20]));
        Self::finish(hash)
    }

    /// One item of a heartbeat's digest: an instance that the agent vouches for.
    #[must_use]
    pub fn of_vouching(
        service: &ServiceName,
        instance: &InstanceId,
        incarnation: Incarnation,
        generation: u64,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(service.as_str());
        hash.update([0]);
        hash.update(instance.as_str());
        hash.update([0]);
        hash.update(incarnation.text(&mut [0; ulid::ULID_LEN]));
        hash.update([0]);
        hash.update(decimal(generation, &mut [0; 20]));
        Self::finish(hash)
    }

    /// One item of a catalog's digest: the canonical bytes of an entry.
    #[must_use]
    pub fn of_bytes(canonical: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(canonical);
        Self::finish(hash)
    }

    fn finish(hash: Sha256) -> Self {
        let bytes = hash.finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&bytes[..16]);
        Self(Wide::new(u128::from_be_bytes(first)))
    }

    /// The sum with one more item.
    #[must_use]
    pub fn plus(self, item: Self) -> Self {
        Self(Wide::new(self.0.get().wrapping_add(item.0.get())))
    }

    /// The sum with one item less.
    #[must_use]
    pub fn minus(self, item: Self) -> Self {
        Self(Wide::new(self.0.get().wrapping_sub(item.0.get())))
    }
}

/// Decimal digits of a number without allocating.
fn decimal(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &buffer[start..];
        }
    }
}

impl std::iter::Sum for Digest {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0.get())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a digest: expected 32 hex digits in lower case")]
pub struct DigestError {
    /// The text, cut to 64 characters.
    pub value: String,
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let canonical = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = if canonical { u128::from_str_radix(text, 16).ok() } else { None };
        number
            .map(|number| Self(Wide::new(number)))
            .ok_or_else(|| DigestError { value: text.chars().take(64).collect() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Digest;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a digest of 32 hex digits in lower case")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$", "description": "A sum of hashes modulo 2^128." })
    }
}
