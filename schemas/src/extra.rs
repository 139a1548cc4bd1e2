//! Fields that this version does not know: kept, and passed on.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Unknown fields of one object. Nearly always there are none, and then this costs one word.
#[derive(Debug, Clone, Default)]
// Boxed, an absent map costs one word instead of three, in every object of every instance.
#[allow(clippy::box_collection)]
pub struct Extra(Option<Box<BTreeMap<String, Value>>>);

static NONE: BTreeMap<String, Value> = BTreeMap::new();

impl Extra {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }
}

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Extra {}

impl Deref for Extra {
    type Target = BTreeMap<String, Value>;

    fn deref(&self) -> &BTreeMap<String, Value> {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Extra {
    fn deref_mut(&mut self) -> &mut BTreeMap<String, Value> {
        self.0.get_or_insert_default()
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}
