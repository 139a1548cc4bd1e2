//! Text that many hold: versions, hosts, tags, labels.

use std::borrow::{Borrow, Cow};
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

// One word instead of the two of `Arc<str>`: an instance holds a score of texts, a catalog millions of instances.
use arcstr::ArcStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that costs one word, and nothing more where the same was read shortly before.
///
/// A fleet says the same words again and again, so what a thread has read last it hands out again instead of copying it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Text(ArcStr);

/// How many texts a thread remembers; a newer one takes the place of an older one.
const REMEMBERED_MAX: usize = 2_048;
/// Longer ones are hardly ever the same.
const REMEMBERED_BYTES_MAX: usize = 64;

thread_local! {
    /// Each with its hash, by which others are told apart without a look at what lies elsewhere in memory.
    static REMEMBERED: RefCell<Vec<(usize, ArcStr)>> = const { RefCell::new(Vec::new()) };
}

/// The text, shared with whoever read the same on this thread not long ago.
pub(crate) fn shared(text: &str) -> ArcStr {
    if text.len() > REMEMBERED_BYTES_MAX {
        return ArcStr::from(text);
    }
    REMEMBERED.with_borrow_mut(|remembered| {
        if remembered.is_empty() {
            remembered.resize(REMEMBERED_MAX, (hash(""), ArcStr::new()));
        }
        let hash = hash(text);
        let (known_hash, known) = &mut remembered[hash % REMEMBERED_MAX];
        if *known_hash != hash || *known != *text {
            (*known_hash, *known) = (hash, ArcStr::from(text));
        }
        ArcStr::clone(known)
    })
}

/// FNV-1a over words of eight bytes: only a place in a table depends on it.
pub(crate) fn hash(text: &str) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ text.len() as u64;
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 32;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(0x0000_0100_0000_01b3);
    hash ^= hash >> 32;
    (hash ^ (hash >> 29)) as usize
}

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(shared(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(shared(&text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self(shared(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0.as_str() == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self.0.as_str() == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        *self.0.as_str() == **other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::from(text))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// The name of a field, or a text that is copied elsewhere: borrowed from what is read unless it holds an escape.
pub(crate) struct FieldName<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = FieldName<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<FieldName<'de>, E> {
                Ok(FieldName(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FieldName<'de>, E> {
                Ok(FieldName(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_shortly_before_is_held_once() {
        let (first, second): (Text, Text) = ("eu-central".into(), "eu-central".to_owned().into());
        assert!(ArcStr::ptr_eq(&first.0, &second.0));
        let other: Text = "eu-west".into();
        assert_eq!((first.as_str(), other.as_str()), ("eu-central", "eu-west"));
    }

    #[test]
    fn texts_that_share_a_place_are_not_confused() {
        let texts: Vec<String> = (0..10 * REMEMBERED_MAX).map(|number| format!("text {number}")).collect();
        for text in texts.iter().chain(&texts) {
            assert_eq!(Text::from(text), *text);
        }
    }

    #[test]
    fn a_text_is_written_and_read_as_a_string() {
        let text: Text = serde_json::from_str(r#""a\"b""#).unwrap();
        assert_eq!((text.as_str(), serde_json::to_string(&text).unwrap().as_str()), ("a\"b", r#""a\"b""#));
        assert!(serde_json::from_str::<Text>("1").is_err());
    }
}
