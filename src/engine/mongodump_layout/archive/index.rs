//! What an archive holds and where: it has no table of contents, so that one is made by reading it to its end.
//!
//! The format, as mongo-tools writes it (`common/archive`): a magic number; a document on the archive and one for each
//! collection, with its metadata; a terminator. Then come blocks: a document that names a collection, documents of that
//! collection, a terminator. Blocks of several collections lie in between each other. The last one of a collection has no
//! documents, but the CRC-64 of all before. Nothing marks the end of the archive: it is whole when every collection has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crc_fast::{CrcAlgorithm, Digest};

use super::MAGIC;
use super::input::{Input, Piece, Wrong, damaged};
use crate::artifact::bson;
use crate::artifact::gunzip::Points;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::mongo::oplog::catalogue::BUCKETS_PREFIX;
use crate::mongo::oplog::entry::op_time;

/// The only version of the format that there is.
const VERSION: &str = "0.1";
/// mongodump collects up to 16 MiB of a collection before it writes a block of it: so many are hundreds of gigabytes.
const MOST_BLOCKS: usize = 4_000_000;
/// What the metadata of all collections takes at most.
const METADATA_LIMIT: usize = 512 << 20;
/// Collections that are named when they lack their end.
const NAMED: usize = 3;

/// What one collection is, as the archive's beginning says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub ns: Namespace,
    /// Extended JSON; empty for what has none.
    pub metadata: String,
    pub kind: String,
}

/// The documents of one collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Where they lie in the decompressed archive: position and length, in order.
    pub blocks: Vec<(u64, u64)>,
    pub bytes: u64,
    pub documents: u64,
    /// CRC-64 (ECMA) of them all, as the archive says and as they are.
    pub crc64: u64,
}

/// An archive that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub server_version: String,
    pub tool_version: String,
    pub listed: Vec<Listed>,
    pub contents: BTreeMap<Namespace, Contents>,
    /// The first and last position of its oplog; `None` without one, or when that is empty.
    pub oplog: Option<(Timestamp, Timestamp)>,
    /// Where a gzipped one can be entered.
    pub points: Points,
}

impl Index {
    /// The documents of all collections; entries of the oplog are none.
    pub fn documents(&self) -> u64 {
        let of_collections = self.contents.iter().filter(|(ns, _)| **ns != oplog());
        of_collections.map(|(_, contents)| contents.documents).fold(0, u64::saturating_add)
    }
}

/// Where the oplog lies.
pub fn oplog() -> Namespace {
    Namespace::new("", "oplog")
}

struct Reading {
    contents: Contents,
    crc: Digest,
    has_ended: bool,
    span: Option<(Timestamp, Timestamp)>,
}

/// What is found before the documents.
struct Beginning {
    server_version: String,
    tool_version: String,
    listed: Vec<Listed>,
}

/// Reads an archive to its end. `check_structure`: look into every document. `passed` is called with the number of
/// decompressed bytes and of documents, from time to time.
///
/// Errors: all that is wrong with it; damage to one collection does not hide that of another.
pub fn read(
    source: impl Read,
    gzipped: bool,
    check_structure: bool,
    mut passed: impl FnMut(u64, u64),
) -> std::result::Result<Index, Vec<Wrong>> {
    let mut input = Input::new(source, gzipped);
    let Beginning { server_version, tool_version, listed } = beginning(&mut input).map_err(|wrong| vec![wrong])?;
    let mut readings: BTreeMap<Namespace, Reading> = BTreeMap::new();
    let mut wrong = Vec::new();
    let read = blocks(&mut input, check_structure, &listed, &mut readings, &mut wrong, &mut passed);
    let ended_at = match read {
        Ok(()) => input.position(),
        Err(Wrong::Ends(at)) => at,
        Err(other) => {
            wrong.push(other);
            return Err(wrong);
        }
    };
    wrong.extend(incomplete(&listed, &readings, ended_at, read.is_err()));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let oplog = readings.get(&oplog()).and_then(|reading| reading.span);
    let contents = readings.into_iter().map(|(ns, reading)| (ns, reading.contents)).collect();
    Ok(Index { server_version, tool_version, listed, contents, oplog, points: input.into_points() })
}

fn beginning<R: Read>(input: &mut Input<R>) -> std::result::Result<Beginning, Wrong> {
    if input.four()? != MAGIC {
        return Err(damaged("it is no archive of mongodump"));
    }
    let length = match input.piece()? {
        Piece::Document(length) => length,
        Piece::Terminator => return Err(damaged("it does not say what it is")),
        Piece::End => return Err(Wrong::Ends(input.position())),
    };
    let header = input.document(length, true)?;
    let version = text(header, "version")?;
    if version != VERSION {
        let what = format!("it is an archive of format version {}, and only {VERSION} is known", escape(&version));
        return Err(Wrong::Unsupported(what));
    }
    let (server_version, tool_version) = (text(header, "server_version")?, text(header, "tool_version")?);
    let (mut listed, mut names, mut size) = (Vec::new(), BTreeSet::new(), 0);
    loop {
        let length = match input.piece()? {
            Piece::Document(length) => length,
            Piece::Terminator => break,
            Piece::End => return Err(Wrong::Ends(input.position())),
        };
        size += length;
        if size > METADATA_LIMIT {
            return Err(damaged("its list of collections is longer than any"));
        }
        let document = input.document(length, true)?;
        let ns = Namespace::new(text(document, "db")?, text(document, "collection")?);
        if !names.insert(ns.clone()) {
            return Err(damaged(format!("it lists {} twice", escape(&ns.to_string()))));
        }
        listed.push(Listed {
            ns,
            metadata: text(document, "metadata")?,
            // Before there were time series it was not written.
            kind: text(document, "type").unwrap_or_default(),
        });
    }
    Ok(Beginning { server_version, tool_version, listed })
}

fn text(document: &[u8], field: &str) -> std::result::Result<String, Wrong> {
    let found = bson::get(document, field).and_then(|element| element.str());
    found.map(str::to_owned).ok_or_else(|| damaged(format!("a description in it lacks {field}")))
}

/// What the documents of a listed collection are stored as.
fn stored_names(listed: &[Listed]) -> BTreeSet<Namespace> {
    let mut names: BTreeSet<Namespace> = listed.iter().map(|l| l.ns.clone()).collect();
    let series = listed.iter().filter(|l| l.kind == "timeseries");
    names.extend(series.map(|l| Namespace::new(&l.ns.db, format!("{BUCKETS_PREFIX}{}", l.ns.collection))));
    names.insert(oplog());
    names
}

fn blocks<R: Read>(
    input: &mut Input<R>,
    check_structure: bool,
    listed: &[Listed],
    readings: &mut BTreeMap<Namespace, Reading>,
    wrong: &mut Vec<Wrong>,
    passed: &mut impl FnMut(u64, u64),
) -> std::result::Result<(), Wrong> {
    let known = stored_names(listed);
    let mut number = 0;
    loop {
        let at = input.position();
        let length = match input.piece()? {
            Piece::End => return Ok(()),
            Piece::Terminator => return Err(damaged(format!("the block at byte {at} does not say whose it is"))),
            Piece::Document(length) => length,
        };
        let header = input.document(length, true)?;
        let ns = Namespace::new(text(header, "db")?, text(header, "collection")?);
        let field = |name| bson::get(header, name);
        let is_end = field("EOF").map(|e| e.truthy()).ok_or_else(|| damaged("a block in it lacks EOF"))?;
        let crc = field("CRC").and_then(|e| e.i64()).ok_or_else(|| damaged("a block in it lacks CRC"))?;
        let shown = escape(&ns.to_string());
        if !known.contains(&ns) {
            return Err(damaged(format!("it holds documents of {shown}, which it does not list")));
        }
        number += 1;
        if number > MOST_BLOCKS {
            return Err(Wrong::Unsupported("it is in more pieces than mongodump makes of one".into()));
        }
        let is_oplog = ns == oplog();
        let reading = readings.entry(ns).or_insert_with(|| Reading {
            contents: Contents::default(),
            crc: Digest::new(CrcAlgorithm::Crc64Xz),
            has_ended: false,
            span: None,
        });
        if reading.has_ended {
            return Err(damaged(format!("documents of {shown} come after its end")));
        }
        let begin = input.position();
        let before = reading.contents.documents;
        loop {
            let length = match input.piece()? {
                Piece::Terminator => break,
                Piece::End => return Err(Wrong::Ends(input.position())),
                Piece::Document(_) if is_end => return Err(damaged(format!("documents are in the end of {shown}"))),
                Piece::Document(length) => length,
            };
            let document = input.document(length, check_structure).map_err(|wrong| within(wrong, &shown))?;
            reading.crc.update(document);
            reading.contents.bytes += length as u64;
            reading.contents.documents += 1;
            if is_oplog {
                reading.span = Some(follow(reading.span, document)?);
            }
        }
        if is_end {
            reading.has_ended = true;
            reading.contents.crc64 = reading.crc.finalize();
            // As the bits that they are.
            if reading.contents.crc64 != u64::from_ne_bytes(crc.to_ne_bytes()) {
                let what = if is_oplog { "the oplog".to_owned() } else { shown };
                wrong.push(damaged(format!("the checksum of {what} does not match")));
            }
        } else if input.position() - 4 > begin {
            reading.contents.blocks.push((begin, input.position() - 4 - begin));
        }
        passed(input.position(), reading.contents.documents - before);
    }
}

fn within(wrong: Wrong, of: &str) -> Wrong {
    match wrong {
        Wrong::Damaged(why) => damaged(format!("{why}, of {of}")),
        other => other,
    }
}

fn follow(span: Option<(Timestamp, Timestamp)>, entry: &[u8]) -> std::result::Result<(Timestamp, Timestamp), Wrong> {
    let at = op_time(entry).ok_or_else(|| damaged("its oplog holds an entry without a position"))?.ts;
    match span {
        Some((_, last)) if at < last => Err(damaged(format!("its oplog goes back from {last} to {at}"))),
        Some((first, _)) => Ok((first, at)),
        None => Ok((at, at)),
    }
}

/// Why what was read to byte `at` is not the whole archive. `is_cut`: it ends within something.
fn incomplete(listed: &[Listed], readings: &BTreeMap<Namespace, Reading>, at: u64, is_cut: bool) -> Option<Wrong> {
    let has_ended = |ns: &Namespace| readings.get(ns).is_some_and(|reading| reading.has_ended);
    let mut open: Vec<Namespace> = Vec::new();
    for Listed { ns, kind, .. } in listed {
        let buckets = Namespace::new(&ns.db, format!("{BUCKETS_PREFIX}{}", ns.collection));
        if has_ended(ns) || (kind == "timeseries" && has_ended(&buckets)) {
            continue;
        }
        open.push(ns.clone());
    }
    open.extend(
        readings
            .iter()
            .filter(|(ns, r)| !r.has_ended && !listed.iter().any(|l| l.ns == **ns))
            .map(|(ns, _)| ns.clone()),
    );
    if open.is_empty() && !is_cut {
        return None;
    }
    let name = |ns: &Namespace| if *ns == oplog() { "its oplog".to_owned() } else { escape(&ns.to_string()) };
    let mut names: Vec<String> = open.iter().take(NAMED).map(name).collect();
    if open.len() > NAMED {
        names.push(format!("{} more", open.len() - NAMED));
    }
    let lacks = if names.is_empty() { String::new() } else { format!(", before the end of {}", names.join(", ")) };
    let what =
        format!("it is not complete: it ends at byte {at}{lacks}; was mongodump interrupted, or the file cut off?");
    Some(damaged(what))
}
