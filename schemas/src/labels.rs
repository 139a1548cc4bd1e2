//! Keys and values of the user's own, in byte order of the keys.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::Text;

/// A small map that is read often and hardly ever changed: one allocation, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Box<[(Text, Text)]>);

impl Labels {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        Some(self.0[found].1.as_str())
    }

    /// Keys and values, in byte order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a value; copies the others.
    pub fn insert(&mut self, key: impl Into<Text>, value: impl Into<Text>) {
        let mut all = std::mem::take(&mut self.0).into_vec();
        all.push((key.into(), value.into()));
        *self = Self::of(all);
    }

    /// Of equal keys the last one counts.
    fn of(mut all: Vec<(Text, Text)>) -> Self {
        if !all.is_sorted_by(|one, next| one.0 < next.0) {
            all.reverse();
            all.sort_by(|one, next| one.0.cmp(&next.0));
            all.dedup_by(|next, one| one.0 == next.0);
        }
        Self(all.into_boxed_slice())
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

impl<K: Into<Text>, V: Into<Text>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self::of(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        map.into_iter().collect()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
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
                while let Some(pair) = map.next_entry()? {
                    all.push(pair);
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
}
