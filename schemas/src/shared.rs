//! Parts that many instances say alike, word for word: held once where the same was read shortly before.

use std::cell::RefCell;
use std::sync::Arc;

use crate::instance::{Locality, Node};
use crate::text::hash;

/// How many of a kind a thread remembers; a newer one takes the place of an older one.
const REMEMBERED_MAX: usize = 1_024;

type Remembered<T> = RefCell<Vec<Option<Arc<T>>>>;

thread_local! {
    static LOCALITIES: Remembered<Locality> = const { RefCell::new(Vec::new()) };
    static NODES: Remembered<Node> = const { RefCell::new(Vec::new()) };
}

/// The locality, shared with whoever read the same on this thread not long ago.
pub(crate) fn locality(locality: Locality) -> Arc<Locality> {
    let place = hash(locality.zone.as_deref().unwrap_or_default());
    LOCALITIES.with(|remembered| shared(remembered, place, locality))
}

/// The node, shared with whoever read the same on this thread not long ago.
pub(crate) fn node(node: Node) -> Arc<Node> {
    let place = hash(&node.name);
    NODES.with(|remembered| shared(remembered, place, node))
}

fn shared<T: PartialEq>(remembered: &Remembered<T>, place: usize, value: T) -> Arc<T> {
    let mut remembered = remembered.borrow_mut();
    if remembered.is_empty() {
        remembered.resize_with(REMEMBERED_MAX, || None);
    }
    let place = &mut remembered[place % REMEMBERED_MAX];
    match place {
        Some(known) if **known == value => Arc::clone(known),
        _ => Arc::clone(place.insert(Arc::new(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_shortly_before_is_held_once_and_others_are_not_confused() {
        let named = |number: usize| Node {
            id: None,
            name: format!("node-{number}").into(),
            address: None,
            extra: crate::extra::Extra::new(),
        };
        assert!(Arc::ptr_eq(&node(named(1)), &node(named(1))));
        for number in (0..3 * REMEMBERED_MAX).chain(0..3 * REMEMBERED_MAX) {
            assert_eq!(*node(named(number)), named(number));
        }
        let zone =
            |region: &str| Locality { region: Some(region.into()), zone: Some("a".into()), ..Locality::default() };
        assert_eq!((locality(zone("eu")), locality(zone("us"))), (zone("eu").into(), zone("us").into()));
    }
}
