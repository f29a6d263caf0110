//! The forms an update has in the oplog, and updates of paths (`$v: 1`), which servers before 5.0 write.
//!
//! A dotted path says nothing of what is on the way: `a.0` is the first element of an array, or the field `0` of a document,
//! and what is missing is made. From 7.0 on a server takes differences only (`$v: 2`), which do say it, so that the document
//! is needed to write one. What a path does is done here on the bytes of a document, as the servers do it that take one.

use crate::artifact::bson::{self, Element, Malformed, Writer, tag};
use crate::domain::text::quoted;
use crate::error::{Error, ErrorKind, Result};

use super::entry::unknown;

/// The form of the object of an update entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A new document in the place of the old one.
    Whole,
    /// `$v: 2`.
    Difference,
    /// `$set` and `$unset` of paths: `$v: 1`, or without a version.
    Modifiers,
}

/// Which forms of updates `applyOps` takes, besides whole documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateForms {
    /// 4.4, and 5.0 with the feature compatibility version 4.4 (`$v: 2`: codes 40682 and 4773100).
    Modifiers,
    /// 5.0 and 6.0.
    Both,
    /// 7.0 (`$v: 1`: code 4772600).
    Differences,
}

impl UpdateForms {
    /// Of a server of version `numbers` and this feature compatibility version, where it is known.
    pub fn taken_by(numbers: [u32; 3], fcv: Option<&str>) -> Self {
        let [major, minor, _] = numbers;
        if (major, minor) > (6, 0) {
            Self::Differences
        } else if major < 5 || fcv.is_some_and(|fcv| fcv.starts_with("4.")) {
            Self::Modifiers
        } else {
            Self::Both
        }
    }
}

/// A path that is set, or unset.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    pub path: Vec<&'a [u8]>,
    pub to: Option<Element<'a>>,
}

impl Change<'_> {
    fn has_index(&self) -> bool {
        self.path.iter().any(|name| name.iter().all(u8::is_ascii_digit))
    }
}

/// A document after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub document: Vec<u8>,
    /// The same as an entry of `$v: 2`. None where a name on the path stands twice in its document: a difference changes
    /// both, a path the first.
    pub difference: Option<Vec<u8>>,
}

/// No document is nested as deep.
const MAX_DEPTH: usize = 250;
/// The server's own bound on what it pads.
const MAX_PADDING: usize = 1_500_000;
const NULL: u8 = 0x0a;

fn broken(e: Malformed) -> Error {
    Error::new(ErrorKind::Corrupt, "an update in the stored oplog is not BSON").source(e)
}

/// What kind of update `o` is. An entry of a whole document has an `_id`, and the others have none.
///
/// Errors: `Unsupported` for a form nobody knows.
pub fn form(o: &[u8]) -> Result<Form> {
    let (mut version, mut operators, mut fields, mut has_difference) = (None, 0, 0, false);
    for e in bson::elements(o).map_err(broken)? {
        let e = e.map_err(broken)?;
        match e.key {
            b"_id" => return Ok(Form::Whole),
            b"$v" => version = Some(e.i64()),
            b"diff" if e.document().is_some() => has_difference = true,
            key if key.starts_with(b"$") => operators += 1,
            _ => fields += 1,
        }
    }
    match version {
        Some(Some(2)) if has_difference && operators + fields == 0 => Ok(Form::Difference),
        Some(Some(1)) if !has_difference && fields == 0 => Ok(Form::Modifiers),
        None if operators > 0 && fields == 0 && !has_difference => Ok(Form::Modifiers),
        None if operators == 0 => Ok(Form::Whole),
        _ => Err(unknown("update in a form this version does not know")),
    }
}

/// Fails for an update that cannot be replayed.
pub fn check(o: &[u8]) -> Result<()> {
    match form(o)? {
        Form::Modifiers => changes(o).map(drop),
        Form::Whole | Form::Difference => Ok(()),
    }
}

/// What [`Form::Modifiers`] change, in the order in which the source changed it.
///
/// Errors: `Unsupported` for another operator, or a path no server takes.
pub fn changes(o: &[u8]) -> Result<Vec<Change<'_>>> {
    let mut changes = Vec::new();
    for operator in bson::elements(o).map_err(broken)? {
        let operator = operator.map_err(broken)?;
        let sets = match operator.key {
            b"$v" => continue,
            b"$set" => true,
            b"$unset" => false,
            other => return Err(unknown(&format!("update with {}", quoted(&String::from_utf8_lossy(other))))),
        };
        let fields = operator.document().ok_or_else(|| unknown("update without fields"))?;
        for field in bson::elements(fields).map_err(broken)? {
            let field = field.map_err(broken)?;
            let path: Vec<&[u8]> = field.key.split(|b| *b == b'.').collect();
            if path.len() > MAX_DEPTH || path.iter().any(|name| name.is_empty()) {
                let path = quoted(&String::from_utf8_lossy(field.key));
                return Err(unknown(&format!("update of the path {path}")));
            }
            changes.push(Change { path, to: sets.then_some(field) });
        }
    }
    Ok(changes)
}

/// Whether servers might change these in another order than they stand in, and new fields would then stand in another order:
/// 4.4 sorts `10` before `9`, and later versions do not.
pub fn order_matters(changes: &[Change<'_>]) -> bool {
    changes.iter().filter(|change| change.to.is_some() && change.has_index()).count() > 1
}

/// The entry for one change by itself.
pub fn single(change: &Change<'_>) -> Vec<u8> {
    let path = change.path.join(&b'.');
    let mut w = Writer::default();
    w.i32("$v", 1);
    match &change.to {
        Some(to) => w.open(tag::DOCUMENT, "$set").raw(to.tag, &path, to.value).close(),
        None => w.open(tag::DOCUMENT, "$unset").raw(tag::BOOLEAN, &path, &[1]).close(),
    };
    w.finish()
}

/// The entry of `$v: 2` for changes of whole fields, which needs no document. None when a path goes deeper.
pub fn plain_difference(changes: &[Change<'_>]) -> Option<Vec<u8>> {
    if changes.iter().any(|change| change.path.len() > 1) {
        return None;
    }
    let mut w = Writer::default();
    w.i32("$v", 2).open(tag::DOCUMENT, "diff");
    let name = |change: &Change<'_>| change.path.first().copied().unwrap_or_default().to_vec();
    // The server takes the sections in this order only (code 4770503).
    if changes.iter().any(|change| change.to.is_none()) {
        w.open(tag::DOCUMENT, "d");
        for change in changes.iter().filter(|change| change.to.is_none()) {
            w.raw(tag::BOOLEAN, &name(change), &[0]);
        }
        w.close();
    }
    if changes.iter().any(|change| change.to.is_some()) {
        w.open(tag::DOCUMENT, "u");
        for change in changes {
            if let Some(to) = &change.to {
                w.raw(to.tag, &name(change), to.value);
            }
        }
        w.close();
    }
    Some(w.finish())
}

/// What a difference of whole fields changes; None for one that goes deeper, or puts fields elsewhere.
pub fn of_plain_difference(o: &[u8]) -> Option<Vec<Change<'_>>> {
    let mut changes = Vec::new();
    for section in bson::elements(bson::get(o, "diff")?.document()?).ok()? {
        let section = section.ok()?;
        let sets = match section.key {
            b"d" => false,
            b"u" => true,
            _ => return None,
        };
        for field in bson::elements(section.document()?).ok()? {
            let field = field.ok()?;
            changes.push(Change { path: vec![field.key], to: sets.then_some(field) });
        }
    }
    Some(changes)
}

/// Applies modifiers to a document.
///
/// Errors: as [`changes`].
pub fn apply(document: &[u8], o: &[u8]) -> Result<Vec<u8>> {
    let mut document = document.to_vec();
    for change in changes(o)? {
        if let Some(edited) = edit(&document, &change)? {
            document = edited.document;
        }
    }
    Ok(document)
}

/// One change of a document. None where there is nothing to change: what is to be unset is not there, or the path leads
/// through what is neither document nor array, as happens where the document is newer than its update.
pub fn edit(document: &[u8], change: &Change<'_>) -> Result<Option<Edited>> {
    let Some(Part { bytes, difference }) = within(document, false, &change.path, change.to.as_ref())? else {
        return Ok(None);
    };
    let difference = difference.map(|difference| {
        let mut w = Writer::with_capacity(difference.len() + 32);
        w.i32("$v", 2).document("diff", &difference);
        w.finish()
    });
    Ok(Some(Edited { document: bytes, difference }))
}

/// A document or array after a change, and the difference that makes it so.
struct Part {
    bytes: Vec<u8>,
    difference: Option<Vec<u8>>,
}

fn within(container: &[u8], array: bool, path: &[&[u8]], to: Option<&Element<'_>>) -> Result<Option<Part>> {
    let Some((name, rest)) = path.split_first() else { return Ok(None) };
    let place = match (array, index(name)) {
        (false, _) => None,
        (true, Some(index)) => Some(index),
        (true, None) => return Ok(None),
    };
    let (mut found, mut count, mut twice) = (None, 0, false);
    for element in bson::elements(container).map_err(broken)? {
        let element = element.map_err(broken)?;
        if place.map_or(element.key == *name, |place| place == count) {
            twice |= found.is_some();
            found.get_or_insert((count, element));
        }
        count += 1;
    }
    let Some((at, old)) = found else {
        let Some(to) = to else { return Ok(None) };
        return added(container, count, place, name, rest, to).map(Some);
    };
    if !rest.is_empty() {
        let is_array = match old.tag {
            tag::DOCUMENT => false,
            tag::ARRAY => true,
            _ => return Ok(None),
        };
        let Some(inner) = within(old.value, is_array, rest, to)? else { return Ok(None) };
        let bytes = replaced(container, at, Some((old.tag, &inner.bytes)))?;
        let difference = inner.difference.filter(|_| !twice).map(|inner| {
            let mut key = b"s".to_vec();
            match place {
                Some(place) => key.extend_from_slice(place.to_string().as_bytes()),
                None => key.extend_from_slice(name),
            }
            let mut w = sections(place);
            w.raw(tag::DOCUMENT, &key, &inner);
            w.finish()
        });
        return Ok(Some(Part { bytes, difference }));
    }
    // An element that is unset leaves its place.
    let new = match (to, place) {
        (Some(to), _) => Some((to.tag, to.value)),
        (None, Some(_)) => Some((NULL, &[][..])),
        (None, None) => None,
    };
    let difference = (!twice).then(|| value_difference(place, name, new));
    Ok(Some(Part { bytes: replaced(container, at, new)?, difference }))
}

/// A field or element that was not there, with the documents that its path needs.
fn added(
    container: &[u8],
    count: usize,
    place: Option<usize>,
    name: &[u8],
    rest: &[&[u8]],
    to: &Element<'_>,
) -> Result<Part> {
    let padding = place.map_or(0, |place| place.saturating_sub(count));
    if padding > MAX_PADDING {
        return Err(unknown("update of an element that no array has"));
    }
    let (mut kind, mut value) = (to.tag, to.value.to_vec());
    for name in rest.iter().rev() {
        let mut w = Writer::with_capacity(value.len() + name.len() + 8);
        w.raw(kind, name, &value);
        (kind, value) = (tag::DOCUMENT, w.finish());
    }
    let mut w = Writer::with_capacity(container.len() + value.len() + 16);
    for element in bson::elements(container).map_err(broken)? {
        w.element(&element.map_err(broken)?);
    }
    for n in 0..padding {
        w.raw(NULL, (count + n).to_string().as_bytes(), &[]);
    }
    match place {
        Some(place) => w.raw(kind, place.to_string().as_bytes(), &value),
        None => w.raw(kind, name, &value),
    };
    Ok(Part { bytes: w.finish(), difference: Some(value_difference(place, name, Some((kind, &value)))) })
}

/// The container with its element number `at` replaced, or without it.
fn replaced(container: &[u8], at: usize, new: Option<(u8, &[u8])>) -> Result<Vec<u8>> {
    let mut w = Writer::with_capacity(container.len() + new.map_or(0, |(_, value)| value.len()));
    for (n, element) in bson::elements(container).map_err(broken)?.enumerate() {
        let element = element.map_err(broken)?;
        match (n == at, new) {
            (false, _) => drop(w.element(&element)),
            (true, Some((tag, value))) => drop(w.raw(tag, element.key, value)),
            (true, None) => {}
        }
    }
    Ok(w.finish())
}

/// The difference that sets (or removes) one field or element.
fn value_difference(place: Option<usize>, name: &[u8], new: Option<(u8, &[u8])>) -> Vec<u8> {
    let mut w = sections(place);
    match (place, new) {
        (Some(place), Some((tag, value))) => drop(w.raw(tag, format!("u{place}").as_bytes(), value)),
        (None, Some((kind, value))) => drop(w.open(tag::DOCUMENT, "u").raw(kind, name, value).close()),
        (_, None) => drop(w.open(tag::DOCUMENT, "d").raw(tag::BOOLEAN, name, &[0]).close()),
    }
    w.finish()
}

/// The beginning of a difference of a document, or of an array.
fn sections(place: Option<usize>) -> Writer {
    let mut w = Writer::default();
    if place.is_some() {
        w.bool("a", true);
    }
    w
}

/// An element's number: decimal digits.
fn index(name: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(name).ok().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse::<u32>().ok().and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests;
