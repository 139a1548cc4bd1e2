//! Keys and values of the user's own, in byte order of the keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use arcstr::ArcStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{FieldName, shared};

/// A small map that is read often and hardly ever changed: one word, and one allocation that clones share.
///
/// Held as one text, key after value after key, each behind its length: an instance has a handful of labels, and pointers to
/// each would take more room than the labels.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Labels(ArcStr);

/// A length is written in digits of so many bits, the lowest first: each is a character of ASCII.
const DIGIT_BITS: u32 = 6;
/// Another digit follows.
const MORE: usize = 1 << DIGIT_BITS;

impl Labels {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Keys and values, in byte order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a value; copies the others.
    pub fn insert(&mut self, key: impl AsRef<str>, value: impl AsRef<str>) {
        let own = self.clone();
        let known = own.iter().map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value)));
        *self = Self::of(known.chain([(key.as_ref().into(), value.as_ref().into())]).collect());
    }

    /// Of equal keys the last one counts.
    fn of(mut all: Vec<(Cow<'_, str>, Cow<'_, str>)>) -> Self {
        if !all.is_sorted_by(|one, next| one.0 < next.0) {
            all.reverse();
            all.sort_by(|one, next| one.0.cmp(&next.0));
            all.dedup_by(|next, one| one.0 == next.0);
        }
        let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
        let mut text = String::with_capacity(bytes);
        for (key, value) in &all {
            put(&mut text, key);
            put(&mut text, value);
        }
        Self(shared(&text))
    }
}

fn put(text: &mut String, piece: &str) {
    let mut length = piece.len();
    while length >= MORE {
        text.push(digit(length % MORE + MORE));
        length /= MORE;
    }
    text.push(digit(length));
    text.push_str(piece);
}

fn digit(value: usize) -> char {
    char::from(u8::try_from(value).unwrap_or(0))
}

/// Takes one piece from the front.
fn take<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (mut length, mut digits) = (0, 0);
    for byte in rest.bytes() {
        let byte = usize::from(byte);
        length |= (byte % MORE) << (DIGIT_BITS * digits);
        digits += 1;
        if byte < MORE {
            break;
        }
    }
    let (piece, after) = rest.get(digits as usize..)?.split_at_checked(length)?;
    *rest = after;
    (digits > 0).then_some(piece)
}

impl fmt::Debug for Labels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl Index<&str> for Labels {
    type Output = str;

    /// # Panics
    /// If there is no such key.
    fn index(&self, key: &str) -> &str {
        self.get(key).unwrap_or_else(|| panic!("there is no label {key:?}"))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs: Vec<(K, V)> = pairs.into_iter().collect();
        Self::of(pairs.iter().map(|(key, value)| (key.as_ref().into(), value.as_ref().into())).collect())
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        map.into_iter().collect()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Labels;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut all = Vec::new();
                while let Some((FieldName(key), FieldName(value))) = map.next_entry()? {
                    all.push((key, value));
                }
                Ok(Labels::of(all))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(feature = "json-schema")]
impl schemars::JsonSchema for Labels {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        BTreeMap::<String, String>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_in_byte_order_and_the_last_of_equal_keys_counts() {
        let labels: Labels = serde_json::from_str(r#"{"b":"1","a":"2","b":"3"}"#).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!((labels.get("b"), labels.get("c"), &labels["a"]), (Some("3"), None, "2"));
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"a":"2","b":"3"}"#);
    }

    #[test]
    fn a_label_that_is_set_again_has_the_new_value() {
        let mut labels = Labels::default();
        labels.insert("team", "shop");
        labels.insert("region", "eu");
        labels.insert("team", "payments");
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("region", "eu"), ("team", "payments")]);
    }

    #[test]
    fn labels_of_any_length_come_back_as_they_were() {
        let long = |length: usize| "ä".repeat(length);
        let pairs: Vec<(String, String)> =
            [0, 1, 31, 32, 33, 63, 64, 2_048, 70_000].iter().map(|length| (long(*length), long(length / 2))).collect();
        let labels: Labels = pairs.iter().map(|(key, value)| (key, value)).collect();
        assert_eq!((labels.len(), labels.get("ö")), (pairs.len(), None));
        assert!(labels.iter().eq(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
    }
}
