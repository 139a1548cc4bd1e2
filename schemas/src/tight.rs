//! Lists that are held for long: read into exactly as much room as they take.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most lists of an instance are no longer; these are put aside until it is known how many there are.
const FEW: usize = 4;

/// A list without room for more: readers of JSON give each list room for four, and an allocator keeps the half of it that
/// is given back.
pub(crate) struct Tight<T>(pub(crate) Vec<T>);

impl<T> Default for Tight<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tight<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Vec<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
                let mut few = [const { None::<T> }; FEW];
                for count in 0..FEW {
                    let element = elements.next_element()?;
                    if element.is_none() {
                        let mut list = Vec::with_capacity(count);
                        list.extend(few.into_iter().flatten());
                        return Ok(list);
                    }
                    few[count] = element;
                }
                let mut list = Vec::with_capacity(2 * FEW);
                list.extend(few.into_iter().flatten());
                while let Some(element) = elements.next_element()? {
                    list.push(element);
                }
                list.shrink_to_fit();
                Ok(list)
            }
        }
        deserializer.deserialize_seq(List(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_is_read_in_order_and_has_no_room_for_more() {
        for length in 0..20_usize {
            let numbers: Vec<usize> = (0..length).collect();
            let Tight(read) = serde_json::from_value::<Tight<usize>>(serde_json::json!(numbers)).unwrap();
            assert_eq!((read.capacity(), read), (length, numbers));
        }
        let error = serde_json::from_str::<Tight<usize>>("{}").err().map(|error| error.to_string());
        let derived = serde_json::from_str::<Vec<usize>>("{}").err().map(|error| error.to_string());
        assert_eq!(error, derived);
        assert!(serde_json::from_str::<Tight<usize>>("[1,2,3,4,5,false]").is_err());
    }
}
