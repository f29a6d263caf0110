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

/// The descriptions alone, in their order. `N` is the number of fields.
pub const fn described<T, const N: usize>(fields: &[Typed<T>]) -> [Field; N] {
    let mut out = [fields[0].field; N];
    let mut n = 0;
    while n < N {
        out[n] = fields[n].field;
        n += 1;
    }
    out
}

/// Puts what `values` has into `entity`. What is absent stays; what is empty is removed, or gets its default again. Keys
/// that belong to other fields are left alone: [`super::fields::check`] finds those that belong to none.
///
/// Errors: `Invalid`, naming the field that cannot be read, or that is required and was emptied.
pub fn apply<T>(fields: &[Typed<T>], entity: &mut T, values: &Values) -> Result<()> {
    for Typed { field, set, .. } in fields {
        let Some(given) = values.get(field.key) else { continue };
        let texts: Vec<String> = given.iter().filter(|text| !text.is_empty()).cloned().collect();
        if texts.is_empty() && field.required && field.default.is_empty() {
            return Err(Error::invalid(&field.name(), "is needed"));
        }
        set(entity, &texts).map_err(|why| Error::invalid(&field.name(), why))?;
    }
    Ok(())
}

/// The present texts of all fields that have some, secrets left out.
pub fn texts<T>(fields: &[Typed<T>], entity: &T) -> Values {
    let shown = fields.iter().filter(|typed| typed.field.kind != FieldKind::Secret);
    let pairs = shown.map(|Typed { field, get, .. }| (field.key.to_owned(), get(entity)));
    pairs.filter(|(_, texts)| !texts.is_empty()).collect()
}

/// The present values of all fields that have some as JSON, secrets left out: switches and numbers as such, lists as
/// arrays, all else as text.
pub fn to_json<T>(fields: &[Typed<T>], entity: &T) -> serde_json::Map<String, serde_json::Value> {
    let mut out = serde_json::Map::new();
    for (key, texts) in texts(fields, entity) {
        let kind = fields.iter().find(|typed| typed.field.key == key).map(|typed| typed.field.kind);
        let first = texts.first().cloned().unwrap_or_default();
        let value = match kind {
            Some(FieldKind::Bool) => (first == "true").into(),
            Some(FieldKind::Integer(..) | FieldKind::NumberOrText) => {
                first.parse::<u64>().map_or_else(|_| first.into(), Into::into)
            }
            Some(FieldKind::List) => texts.into(),
            _ => first.into(),
        };
        out.insert(key, value);
    }
    out
}

/// The texts that a JSON object stands for; `null` removes a value.
///
/// Errors: `Invalid` for a value that is no text, number, switch or list of texts.
pub fn from_json(object: &serde_json::Map<String, serde_json::Value>) -> Result<Values> {
    use serde_json::Value;
    let text = |key: &str, value: &Value| match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(on) => Ok(on.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Array(_) | Value::Object(_) => Err(Error::invalid(&key.replace('_', "-"), "is no text")),
    };
    let pair = |(key, value): (&String, &Value)| {
        let texts = match value {
            Value::Array(values) if values.is_empty() => vec![String::new()],
            Value::Array(values) => values.iter().map(|value| text(key, value)).collect::<Result<_>>()?,
            one => vec![text(key, one)?],
        };
        Ok((key.clone(), texts))
    };
    object.iter().map(pair).collect()
}

/// The first text, as fields that take one are given it.
pub fn first(texts: &[String]) -> Option<&str> {
    texts.first().map(String::as_str)
}

/// An optional text as its texts.
pub fn some_text(text: Option<&String>) -> Vec<String> {
    text.filter(|text| !text.is_empty()).cloned().into_iter().collect()
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
            |of| $crate::domain::typed::some_text(of.$($at).+.as_ref()),
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
            |of| $crate::domain::typed::some_text(Some(&of.$($at).+)),
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

/// A typed field whose value is one of a few words (see `words!`).
macro_rules! word {
    ($field:expr, $($at:ident).+) => {{
        const FIELD: $crate::domain::field::Field = $field;
        $crate::domain::typed::Typed::new(
            FIELD,
            |of| vec![of.$($at).+.word().to_owned()],
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::first(texts).unwrap_or(FIELD.default).parse()?;
                Ok(())
            },
        )
    }};
}

/// A typed field whose value is a number. It has a default.
macro_rules! number {
    ($field:expr, $($at:ident).+) => {{
        const FIELD: $crate::domain::field::Field = $field;
        $crate::domain::typed::Typed::new(
            FIELD,
            |of| vec![of.$($at).+.to_string()],
            |of, texts| {
                let number = $crate::domain::typed::first(texts).unwrap_or(FIELD.default).parse();
                of.$($at).+ = number.map_err(|_| "is not a number".to_owned())?;
                Ok(())
            },
        )
    }};
}

/// A typed field whose value is a number of seconds; 0 without a default.
macro_rules! seconds {
    ($field:expr, $($at:ident).+) => {{
        const FIELD: $crate::domain::field::Field = $field;
        $crate::domain::typed::Typed::new(
            FIELD,
            |of| match of.$($at).+ {
                0 if FIELD.default.is_empty() => Vec::new(),
                seconds => vec![$crate::domain::retry::format_duration(seconds)],
            },
            |of, texts| {
                of.$($at).+ = match $crate::domain::typed::first(texts).unwrap_or(FIELD.default) {
                    "" => 0,
                    text => $crate::domain::retry::parse_duration(text)?.as_secs(),
                };
                Ok(())
            },
        )
    }};
}

/// A typed field whose value is a `Vec` of what can be read from a text and written as one.
macro_rules! list {
    ($field:expr, $($at:ident).+) => {
        $crate::domain::typed::Typed::new(
            $field,
            |of| of.$($at).+.iter().map(ToString::to_string).collect(),
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::all_parsed(texts)?;
                Ok(())
            },
        )
    };
}

/// A typed field whose value is an `Option` of what can be read from a text and written as one.
macro_rules! optional {
    ($field:expr, $($at:ident).+) => {
        $crate::domain::typed::Typed::new(
            $field,
            |of| of.$($at).+.iter().map(ToString::to_string).collect(),
            |of, texts| {
                of.$($at).+ = $crate::domain::typed::first(texts).map(str::parse).transpose()?;
                Ok(())
            },
        )
    };
}

pub(crate) use {list, number, optional, optional_text, plain_text, seconds, secret_text, switch, word};
