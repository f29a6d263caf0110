//! Fields that know the value they belong to: how it is read out of an entity, and how it is put into it.
//!
//! With them a form or a command line needs no code of its own for any field: what was given is applied, what is there
//! is shown for an edit, and an emptied row removes the value. This must never fill in a value that nobody gave: an
//! entity begins with the defaults that its fields name, and a text that cannot be read is an error with a name.

use std::collections::BTreeMap;

use super::field::{Field, FieldKind};
use crate::error::{Error, Result};

/// Texts of fields by key, as a form or the command line collected them; lists have several texts.
pub type Values = BTreeMap<String, Vec<String>>;

/// A field of `T`.
pub struct Typed<T: 'static> {
    pub field: Field,
    /// The present texts; none for a value that is not there.
    pub get: fn(&T) -> Vec<String>,
    /// Puts the texts in, which passed [`Field::validate`]. None of them removes the value, or makes it the default.
    /// The error is a sentence that does not name the field.
    pub set: fn(&mut T, &[String]) -> std::result::Result<(), String>,
}

impl<T> Typed<T> {
    pub const fn new(
        field: Field,
        get: fn(&T) -> Vec<String>,
        set: fn(&mut T, &[String]) -> std::result::Result<(), String>,
    ) -> Self {
        Self { field, get, set }
    }
}

/// The descriptions alone, in their order.
pub fn described<T>(fields: &'static [Typed<T>]) -> Vec<Field> {
    fields.iter().map(|typed| typed.field).collect()
}

/// Puts what `values` has into `entity`. What is absent stays; what is empty is removed. Keys that belong to other fields
/// are left alone: [`super::fields::check`] finds those that belong to none.
///
/// Errors: `Invalid`, naming the field that cannot be read, or that is required and empty now.
pub fn apply<T>(fields: &[Typed<T>], entity: &mut T, values: &Values) -> Result<()> {
    for Typed { field, set, .. } in fields {
        let Some(given) = values.get(field.key) else { continue };
        let texts: Vec<String> = given.iter().filter(|text| !text.is_empty()).cloned().collect();
        set(entity, &texts).map_err(|why| Error::invalid(&field.name(), why))?;
    }
    for Typed { field, get, .. } in fields {
        if field.required && field.default.is_empty() && get(entity).is_empty() {
            return Err(Error::invalid(&field.name(), "is needed"));
        }
    }
    Ok(())
}

/// The present texts of all fields that have some, secrets left out.
pub fn texts<T>(fields: &[Typed<T>], entity: &T) -> Values {
    let shown = fields.iter().filter(|typed| typed.field.kind != FieldKind::Secret);
    let pairs = shown.map(|Typed { field, get, .. }| (field.key.to_owned(), get(entity)));
    pairs.filter(|(_, texts)| !texts.is_empty()).collect()
}

/// The first text, as fields that take one are given it.
pub fn first(texts: &[String]) -> Option<&str> {
    texts.first().map(String::as_str)
}

/// An optional text as its texts.
pub fn optional(text: Option<&String>) -> Vec<String> {
    text.filter(|text| !text.is_empty()).cloned().into_iter().collect()
}

/// The value that a text stands for, or the default where there is none.
///
/// Errors: what the value's own reader says.
pub fn parsed<V: std::str::FromStr<Err = String> + Default>(texts: &[String]) -> std::result::Result<V, String> {
    first(texts).map_or_else(|| Ok(V::default()), str::parse)
}

/// Every text of a list as its value.
///
/// Errors: what the value's own reader says, control characters escaped.
pub fn all_parsed<V: std::str::FromStr<Err = String>>(texts: &[String]) -> std::result::Result<Vec<V>, String> {
    texts.iter().map(|text| text.parse::<V>().map_err(|why| super::text::escape(&why))).collect()
}

/// A typed field of a struct whose value is an `Option<String>`.
macro_rules! optional_text {
    ($field:expr, $($at:ident).+) => {
        $crate::domain::typed::Typed::new(
            $field,
            |of| $crate::domain::typed::optional(of.$($at).+.as_ref()),
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::first(texts).map(str::to_owned);
                Ok(())
            },
        )
    };
}

/// A typed field of a struct whose value is a `String`, empty where there is none.
macro_rules! plain_text {
    ($field:expr, $($at:ident).+) => {
        $crate::domain::typed::Typed::new(
            $field,
            |of| $crate::domain::typed::optional(Some(&of.$($at).+)),
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::first(texts).unwrap_or_default().to_owned();
                Ok(())
            },
        )
    };
}

/// A typed field of a struct whose value is a `bool`.
macro_rules! switch {
    ($field:expr, $($at:ident).+) => {
        $crate::domain::typed::Typed::new(
            $field,
            |of| vec![of.$($at).+.to_string()],
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::first(texts) == Some("true");
                Ok(())
            },
        )
    };
}

/// A typed field of a struct whose value is an `Option<Secret>`.
macro_rules! secret_text {
    ($field:expr, $($at:ident).+) => {
        $crate::domain::typed::Typed::new(
            $field,
            |of| of.$($at).+.iter().map(|secret| secret.expose().to_owned()).collect(),
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::first(texts).map($crate::domain::secret::Secret::new);
                Ok(())
            },
        )
    };
}

pub(crate) use {optional_text, plain_text, secret_text, switch};
