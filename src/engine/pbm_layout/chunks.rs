//! The oplog that PBM records: `pbmPitr/<set>/<day>/<from>.<to>.oplog<suffix>`, and the same in a backup's own folder.
//!
//! A chunk holds every change from the first position in its name to the second, both included, and the next begins
//! where it ends. Entries that change nothing are left out, so that neither position need be one of an entry. What PBM does
//! not write down (terms, checksums, numbers of entries) is not known before a chunk is read.

use chrono::NaiveDateTime;

use super::description::encoded_by;
use crate::artifact::codec::Encoded;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, OpTime, Slice};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// The folder below the root of PBM's storage.
pub const FOLDER: &str = "pbmPitr";

/// What the name of a chunk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Timestamp,
    pub to: Timestamp,
    pub encoded: Encoded,
}

/// Reads the name of a chunk; `marker`: what stands between its positions and its suffix. `None` for any other name.
pub fn span(file_name: &str, marker: &str) -> Option<Span> {
    let (from, rest) = file_name.split_once('.')?;
    let end = rest.find('.').unwrap_or(rest.len());
    let (to, rest) = rest.split_at_checked(end)?;
    let encoded = encoded_by(rest.strip_prefix(marker)?)?;
    let (from, to) = (position(from)?, position(to)?);
    (from < to).then_some(Span { from, to, encoded })
}

/// `YYYYMMDDhhmmss-I`.
fn position(text: &str) -> Option<Timestamp> {
    let (time, ordinal) = text.split_once('-').unwrap_or((text, "0"));
    if time.len() != 14 || !time.bytes().chain(ordinal.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let time = NaiveDateTime::parse_from_str(time, "%Y%m%d%H%M%S").ok()?.and_utc().timestamp();
    Some(Timestamp::new(u32::try_from(time).ok()?, ordinal.parse().ok()?))
}

/// The replica set of a chunk at `path` below the root of PBM's storage, and what its name says.
pub fn of_archive(path: &str) -> Option<(&str, Span)> {
    let mut parts = path.strip_prefix(FOLDER)?.strip_prefix('/')?.split('/');
    let (set, day, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
    (is_day && !set.is_empty() && parts.next().is_none()).then_some(())?;
    Some((set, span(name, ".oplog")?))
}

/// A chunk as a slice, of which only the positions and the stored bytes are known.
pub fn slice(key: &Key, span: Span, size: u64) -> Slice {
    let at = |ts| OpTime { ts, term: OpTime::UNKNOWN_TERM };
    Slice {
        key: key.as_str().to_owned(),
        after: at(span.from),
        last: at(span.to),
        entries: 0,
        operations: 0,
        size,
        uncompressed: 0,
        data_offset: 0,
        blake3: String::new(),
        recipients: Vec::new(),
        written_at: span.to.to_datetime(),
        gap: None,
        marks: Vec::new(),
        counts: Vec::new(),
    }
}

/// Where the chunks of a replica set are.
///
/// PBM does not write down the identity of the replica set. So the place stands for it: two sets of one name in two places
/// do not mix.
pub fn archive(storage: &str, place: &str, folder: &str, set: &str) -> Archive {
    Archive {
        storage: storage.to_owned(),
        folder: folder.to_owned(),
        replica_set: set.to_owned(),
        replica_set_id: set_id(place, folder, set),
    }
}

/// See [`archive`].
pub fn set_id(place: &str, folder: &str, set: &str) -> String {
    let hash = blake3::hash(format!("{place}\0{folder}\0{set}").as_bytes()).to_hex();
    format!("{}{}", Archive::OF_PBM, hash.get(..24).unwrap_or_default())
}

/// The key of a replica set's archive.
pub fn archive_key(folder: &str, set: &str) -> Result<Key> {
    if folder.is_empty() { Key::new(format!("{FOLDER}/{set}")) } else { Key::new(format!("{folder}/{FOLDER}/{set}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_chunks() {
        let found = of_archive("pbmPitr/rs0/20261129/20261129211059-1.20261129211111-27.oplog.s2").unwrap();
        assert_eq!(found.0, "rs0");
        let from = Timestamp::new(1_795_986_659, 1);
        assert_eq!(found.1, Span { from, to: Timestamp::new(1_795_986_671, 27), encoded: Encoded::S2 });
        for (ending, encoded) in
            [("", Encoded::Plain), (".gz", Encoded::Gzip), (".zst", Encoded::Zstd), (".lz4", Encoded::Lz4)]
        {
            let name = format!("20261129211059-1.20261129211111-27{ending}");
            assert_eq!(span(&name, "").unwrap().encoded, encoded, "{name}");
        }
        assert_eq!(span("20200715155939.20200715160029.oplog.snappy", ".oplog").unwrap().from.i, 0);
        for other in [
            "pbmPitr/rs0/20261129/20261129211059-1.20261129211111-27.s2",
            "pbmPitr/rs0/20261129/20261129211059-1.20261129211111-27.oplog.rar",
            "pbmPitr/rs0/20261129/20261129211111-1.20261129211059-27.oplog",
            "pbmPitr/rs0/20261129/20261329211059-1.20261329211111-27.oplog",
            "pbmPitr/rs0/x/20261129211059-1.20261129211111-27.oplog",
            "pbmPitr/rs0/20261129211059-1.20261129211111-27.oplog",
            "pbmPitr//20261129/20261129211059-1.20261129211111-27.oplog",
            "other/rs0/20261129/20261129211059-1.20261129211111-27.oplog",
        ] {
            assert_eq!(of_archive(other), None, "{other}");
        }
    }

    #[test]
    fn sets_of_one_name_in_two_places_do_not_mix() {
        let id = set_id("/a", "", "rs0");
        assert_ne!(id, set_id("/b", "", "rs0"));
        assert_ne!(id, set_id("/a", "x", "rs0"));
        assert!(archive("s", "/a", "", "rs0").is_foreign());
    }
}
