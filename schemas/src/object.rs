//! Reads objects of JSON field by field, once.
//!
//! What serde derives for objects that keep unknown fields (`flatten`) first copies every field aside and then reads the
//! copies. Registrations are the hot path, so theirs are read as they come.

/// Implements `Deserialize` for a type: `need` fields must be there, `may` fields have a default, further ones go into
/// `rest`. Fields are known to the last expression, which makes the value, by their names.
macro_rules! object {
    (
        $type:ident {
            $(need $need:ident: $need_type:ty,)*
            $(may $may:ident: $may_type:ty = $default:expr,)*
            rest $rest:ident,
        } => $value:expr
    ) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;

                    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        out.write_str(concat!("struct ", stringify!($type)))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut fields: A) -> Result<$type, A::Error> {
                        use serde::de::Error;
                        $(let mut $need: Option<$need_type> = None;)*
                        $(let mut $may: Option<$may_type> = None;)*
                        let mut $rest = $crate::extra::Extra::new();
                        while let Some($crate::text::FieldName(name)) = fields.next_key()? {
                            match &*name {
                                $(stringify!($need) => {
                                    if $need.replace(fields.next_value()?).is_some() {
                                        return Err(Error::duplicate_field(stringify!($need)));
                                    }
                                })*
                                $(stringify!($may) => {
                                    if $may.replace(fields.next_value()?).is_some() {
                                        return Err(Error::duplicate_field(stringify!($may)));
                                    }
                                })*
                                _ => {
                                    $rest.insert(name.into_owned(), fields.next_value()?);
                                }
                            }
                        }
                        $(let $need = $need.ok_or_else(|| Error::missing_field(stringify!($need)))?;)*
                        $(let $may = $may.unwrap_or_else(|| $default);)*
                        Ok($value)
                    }
                }
                deserializer.deserialize_map(Visitor)
            }
        }
    };
}

pub(crate) use object;
