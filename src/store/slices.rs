//! The catalogue of slices: what is recorded of the oplog of each service, and where.
//!
//! A cache of what the storages hold, as the catalogue of backups is. Slices are many (one a minute for as long as the
//! window is), so what is asked often is kept beside them: what they cover, put together, and how many they are. It
//! changes in the transaction that changes them.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{SlicingWanted, Store, from_json, integer, millis, time, to_json};
use crate::domain::key::Key;
use crate::domain::pitr::{self, Archive, Base, Coverage, Gap, Mark, OpTime, Slice};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// An archive, and what its slices say together.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveRow {
    pub archive: Archive,
    pub slices: u64,
    pub size_bytes: u64,
    /// Oldest first.
    pub covered: Vec<Coverage>,
    /// As the slices after them tell, oldest first.
    pub gaps: Vec<Gap>,
    pub marks: Vec<Mark>,
}

const POSITIONS: &str = "s.after_t, s.after_i, s.after_term, s.last_t, s.last_i, s.last_term";
const COLUMNS: &str = "s.name, s.entries, s.operations, s.size_bytes, s.uncompressed_bytes, s.data_offset, s.blake3,
    s.written_at, s.gap, s.marks, a.prefix, s.recipients FROM slices s JOIN archives a ON a.id = s.archive";

impl Store {
    /// Notes a slice that is in its storage. Returns whether it was new; one whose key is known is left as it is.
    pub fn add_slice(&self, service: &str, archive: &Archive, slice: &Slice) -> Result<bool> {
        Ok(self.add_slices(service, archive, std::slice::from_ref(slice))? == 1)
    }

    /// The same of several, in one transaction. Returns how many were new.
    ///
    /// Errors: `NotFound` when the storage went away meanwhile.
    pub fn add_slices(&self, service: &str, archive: &Archive, slices: &[Slice]) -> Result<u64> {
        if slices.is_empty() { Ok(0) } else { self.write(|t| add(t, service, archive, slices)) }
    }

    /// Where slices of a service are, the place with the newest first.
    pub fn archives(&self, service: &str) -> Result<Vec<Archive>> {
        Ok(self.archive_rows(service)?.into_iter().map(|row| row.archive).collect())
    }

    /// The same with what the slices say together.
    pub fn archive_rows(&self, service: &str) -> Result<Vec<ArchiveRow>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT storage, folder, replica_set, replica_set_id, slices, size_bytes, id FROM archives
                 WHERE service = ?1 ORDER BY id",
            )?;
            let mut rows = super::all(statement.query([service])?, |row| {
                let id: i64 = row.get(6)?;
                let (gaps, marks) = news(c, id)?;
                Ok(ArchiveRow {
                    archive: read_archive(row)?,
                    slices: row.get::<_, i64>(4)? as u64,
                    size_bytes: row.get::<_, i64>(5)? as u64,
                    covered: covered(c, id)?,
                    gaps,
                    marks,
                })
            })?;
            rows.sort_by_key(|row| std::cmp::Reverse(row.covered.last().map(|piece| piece.last)));
            Ok(rows)
        })
    }

    /// The slices that hold any position from `from` to `to`, both included; in the order in which they begin. Their
    /// `counts` are left out: they are most of a slice, and [`Store::operations`] reads them.
    pub fn slices(&self, service: &str, archive: &Archive, from: Timestamp, to: Timestamp) -> Result<Vec<Slice>> {
        self.read(|c| {
            let Some(Found { id, longest }) = find(c, service, archive)? else { return Ok(Vec::new()) };
            let mut statement = c.prepare_cached(&format!(
                "SELECT {POSITIONS}, {COLUMNS} WHERE s.archive = ?1 AND NOT s.going AND s.after_t >= ?2 AND (s.after_t, s.after_i) < (?3, ?4)
                     AND (s.last_t, s.last_i) >= (?5, ?6) ORDER BY s.after_t, s.after_i, s.last_t, s.last_i"
            ))?;
            let rows = statement.query(params![id, i64::from(from.t) - longest, to.t, to.i, from.t, from.i])?;
            super::all(rows, read)
        })
    }

    /// The slice that reaches farthest, with its counts.
    pub fn newest_slice(&self, service: &str, archive: &Archive) -> Result<Option<Slice>> {
        self.read(|c| {
            let Some(Found { id, longest }) = find(c, service, archive)? else { return Ok(None) };
            let Some(last) = covered(c, id)?.iter().map(|piece| piece.last).max() else { return Ok(None) };
            let mut statement = c.prepare_cached(&format!(
                "SELECT {POSITIONS}, {COLUMNS} WHERE s.archive = ?1 AND NOT s.going AND s.after_t >= ?2
                     AND s.last_t = ?3 AND s.last_i = ?4 AND s.last_term = ?5 ORDER BY s.after_t, s.after_i LIMIT 1"
            ))?;
            let mut rows =
                statement.query(params![id, i64::from(last.ts.t) - longest, last.ts.t, last.ts.i, last.term])?;
            let Some(mut slice) = rows.next()?.map(read).transpose()? else { return Ok(None) };
            let blob: Option<Vec<u8>> = c
                .query_row(
                    "SELECT c.counts FROM slice_counts c JOIN slices s ON s.id = c.slice
                     WHERE s.archive = ?1 AND s.name = ?2",
                    params![id, split(&slice.key)?.1],
                    |r| r.get(0),
                )
                .optional()?;
            slice.counts = from_blob(&blob.unwrap_or_default());
            Ok(Some(slice))
        })
    }

    /// The archives that `wanted` records into, each with its newest slice.
    pub fn recorded_into(&self, wanted: &SlicingWanted) -> Result<Vec<(Archive, Slice)>> {
        let mut found = Vec::new();
        for archive in self.archives(&wanted.service)? {
            if archive.storage == wanted.storage
                && archive.folder == wanted.folder
                && let Some(slice) = self.newest_slice(&wanted.service, &archive)?
            {
                found.push((archive, slice));
            }
        }
        Ok(found)
    }

    /// The keys below `prefix` (the folder of an archive) that are known in `storage`, for any service: in order, those
    /// after `after`, so many at most.
    pub fn slice_keys(&self, storage: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let after = after.map(split).transpose()?.map_or("", |(_, name)| name);
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT DISTINCT s.name FROM archives a JOIN slices s ON s.archive = a.id
                 WHERE a.storage = ?1 AND a.prefix = ?2 AND s.name > ?3 ORDER BY s.name LIMIT ?4",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![storage, prefix, after, limit], |r| {
                Ok(format!("{prefix}/{}", r.get::<_, String>(0)?))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The folders of archives that are known in `storage`.
    pub fn archive_folders(&self, storage: &str) -> Result<Vec<String>> {
        self.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT DISTINCT prefix FROM archives WHERE storage = ?1 ORDER BY prefix")?;
            let rows = statement.query_map([storage], |r| r.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// How many operations are stored of each of `buckets` equal parts of the seconds from `from` up to `to`,
    /// exclusive. Where slices overlap, each operation counts once.
    pub fn operations(&self, service: &str, archive: &Archive, from: u32, to: u32, buckets: usize) -> Result<Vec<u64>> {
        let mut sums = vec![0; buckets];
        if from >= to || buckets == 0 {
            return Ok(sums);
        }
        let bucket = |second: u32| {
            let into = u64::from(second.checked_sub(from).filter(|_| second < to)?);
            usize::try_from(into * buckets as u64 / u64::from(to - from)).ok()
        };
        self.read(|c| {
            let Some(Found { id, longest }) = find(c, service, archive)? else { return Ok(()) };
            let mut statement = c.prepare_cached(
                "SELECT id, after_t, after_i, last_t, last_i, operations FROM slices
                 WHERE archive = ?1 AND NOT going AND after_t >= ?2 AND after_t < ?3 AND last_t >= ?4
                 ORDER BY after_t, after_i",
            )?;
            let mut rows = statement.query(params![id, i64::from(from) - longest, to, from])?;
            let mut counted = Timestamp::MIN;
            while let Some(row) = rows.next()? {
                let after = Timestamp::new(row.get(1)?, row.get(2)?);
                let last = Timestamp::new(row.get(3)?, row.get(4)?);
                if last <= counted {
                    continue;
                }
                match bucket(after.t).filter(|first| bucket(last.t) == Some(*first)) {
                    Some(whole) if after >= counted => {
                        sums[whole] = sums[whole].saturating_add(row.get::<_, i64>(5)? as u64)
                    }
                    _ => {
                        let beyond = if after < counted { counted.t.saturating_add(1) } else { 0 };
                        for (second, count) in counts(c, row.get(0)?)? {
                            if let Some(bucket) = bucket(second).filter(|_| second >= beyond) {
                                sums[bucket] = sums[bucket].saturating_add(u64::from(count));
                            }
                        }
                    }
                }
                counted = last;
            }
            Ok(())
        })?;
        Ok(sums)
    }

    /// Whole backups of a service that replay can begin with, of every model, oldest first; none that is known to be
    /// damaged. With `replica_set_id`, those of that replica set, and those of which it is not known.
    pub fn bases(&self, service: &str, replica_set_id: Option<&str>) -> Result<Vec<Base>> {
        self.read(|c| bases(c, service, replica_set_id, Damaged::No))
    }
}

pub fn add(t: &Transaction<'_>, service: &str, archive: &Archive, slices: &[Slice]) -> Result<u64> {
    let Some(first) = slices.first() else { return Ok(0) };
    let prefix = split(&first.key)?.0;
    let id = archive_id(t, service, archive, prefix)?;
    let mut new: Vec<Coverage> = Vec::new();
    for slice in slices {
        if insert(t, id, prefix, slice)? {
            new.push(Coverage { after: slice.after, last: slice.last });
        }
    }
    let added = new.len() as u64;
    if added > 0 {
        new.extend(covered(t, id)?);
        set_coverage(t, id, &pitr::join(new))?;
    }
    Ok(added)
}

/// Whether backups that a verification found damaged are meant, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    Too,
    No,
}

/// One of another tool is a base only of what that tool recorded, and one that an engine made with what that engine records
/// ([`Archive::BY_ENGINE`]).
pub fn bases(c: &Connection, service: &str, replica_set_id: Option<&str>, damaged: Damaged) -> Result<Vec<Base>> {
    let mut statement = c.prepare_cached(
        "SELECT name, consistent_t, consistent_i, model FROM backups
         WHERE service = ?1 AND state = 'succeeded' AND whole AND consistent_t IS NOT NULL
             AND CASE WHEN pbm_name IS NOT NULL THEN ?2 IS NULL OR ?2 = ?5
                 ELSE (engine = 'native' OR substr(replica_set_id, 1, length(?4)) = ?4)
                     AND (?2 IS NULL OR (?2 != ?5 AND (replica_set_id IS NULL OR replica_set_id = ?2))) END
             AND (?3 OR verify_error IS NULL)
         ORDER BY consistent_t, consistent_i, name",
    )?;
    let of = params![service, replica_set_id, damaged == Damaged::Too, Archive::OF_PBM, Archive::BY_ENGINE];
    super::all(statement.query(of)?, |r| {
        let consistent_at_ts = Timestamp::new(r.get(1)?, r.get(2)?);
        Ok(Base { backup: r.get(0)?, consistent_at_ts, model: super::from_word(r.get(3)?)? })
    })
}

struct Found {
    id: i64,
    longest: i64,
}

fn find(c: &Connection, service: &str, archive: &Archive) -> Result<Option<Found>> {
    let mut statement = c.prepare_cached(
        "SELECT id, longest FROM archives
         WHERE service = ?1 AND storage = ?2 AND folder = ?3 AND replica_set = ?4 AND replica_set_id = ?5",
    )?;
    let place = params![service, archive.storage, archive.folder, archive.replica_set, archive.replica_set_id];
    Ok(statement.query_row(place, |r| Ok(Found { id: r.get(0)?, longest: r.get(1)? })).optional()?)
}

fn archive_id(t: &Transaction<'_>, service: &str, archive: &Archive, prefix: &str) -> Result<i64> {
    super::jobs::must_exist(t, "storage", &archive.storage)?;
    if let Some(found) = find(t, service, archive)? {
        return Ok(found.id);
    }
    t.execute(
        "INSERT INTO archives (service, storage, folder, replica_set, replica_set_id, prefix)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![service, archive.storage, archive.folder, archive.replica_set, archive.replica_set_id, prefix],
    )?;
    Ok(t.last_insert_rowid())
}

/// The folder of the archive that a slice is in, and its name there: that of its file, and for one of PBM the day before it.
pub fn split(key: &str) -> Result<(&str, &str)> {
    let split = key.rsplit_once('/').map(|(folder, name)| match folder.rsplit_once('/') {
        Some((archive, day))
            if name.contains(".oplog") && day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit()) =>
        {
            (archive, key.get(archive.len() + 1..).unwrap_or(name))
        }
        _ => (folder, name),
    });
    split.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{key:?} is no key of a slice")))
}

fn insert(t: &Transaction<'_>, archive: i64, prefix: &str, slice: &Slice) -> Result<bool> {
    let (folder, name) = split(&slice.key)?;
    if folder != prefix {
        return Err(Error::new(ErrorKind::Internal, format!("{:?} is no slice of {prefix:?}", slice.key)));
    }
    let gap = slice.gap.as_ref().map(to_json).transpose()?;
    let marks = (!slice.marks.is_empty()).then(|| to_json(&slice.marks)).transpose()?;
    let recipients = (!slice.recipients.is_empty()).then(|| to_json(&slice.recipients)).transpose()?;
    let added = t
        .prepare_cached(
            "INSERT INTO slices (archive, name, after_t, after_i, after_term, last_t, last_i, last_term, entries,
                operations, size_bytes, uncompressed_bytes, data_offset, blake3, written_at, gap, marks,
                recipients)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
             ON CONFLICT (archive, name) DO UPDATE SET going = 0 WHERE going",
        )?
        .execute(params![
            archive,
            name,
            slice.after.ts.t,
            slice.after.ts.i,
            slice.after.term,
            slice.last.ts.t,
            slice.last.ts.i,
            slice.last.term,
            integer(slice.entries),
            integer(slice.operations),
            integer(slice.size),
            integer(slice.uncompressed),
            integer(slice.data_offset),
            slice.blake3,
            millis(slice.written_at),
            gap,
            marks,
            recipients,
        ])?;
    if added == 0 {
        return Ok(false);
    }
    // One that was going is there, and counts again: somebody has just read it.
    let id: i64 =
        t.query_row("SELECT id FROM slices WHERE archive = ?1 AND name = ?2", params![archive, name], |r| r.get(0))?;
    t.prepare_cached("INSERT OR IGNORE INTO slice_counts (slice, counts) VALUES (?1, ?2)")?
        .execute(params![id, to_blob(&slice.counts)])?;
    Ok(true)
}

fn to_blob(counts: &[(u32, u32)]) -> Vec<u8> {
    counts.iter().flat_map(|(second, count)| [second.to_le_bytes(), count.to_le_bytes()]).flatten().collect()
}

fn from_blob(blob: &[u8]) -> Vec<(u32, u32)> {
    let (pairs, _) = blob.as_chunks::<8>();
    pairs
        .iter()
        .map(|[a, b, c, d, e, f, g, h]| (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h])))
        .collect()
}

fn counts(c: &Connection, slice: i64) -> Result<Vec<(u32, u32)>> {
    let mut statement = c.prepare_cached("SELECT counts FROM slice_counts WHERE slice = ?1")?;
    let blob: Option<Vec<u8>> = statement.query_row([slice], |r| r.get(0)).optional()?;
    Ok(from_blob(&blob.unwrap_or_default()))
}

pub fn covered(c: &Connection, archive: i64) -> Result<Vec<Coverage>> {
    let mut statement = c.prepare_cached(
        "SELECT s.after_t, s.after_i, s.after_term, s.last_t, s.last_i, s.last_term FROM coverage s
         WHERE s.archive = ?1 ORDER BY s.after_t, s.after_i, s.after_term",
    )?;
    super::all(statement.query([archive])?, piece)
}

fn set_coverage(t: &Transaction<'_>, archive: i64, pieces: &[Coverage]) -> Result<()> {
    t.prepare_cached("DELETE FROM coverage WHERE archive = ?1")?.execute([archive])?;
    let mut statement = t.prepare_cached(
        "INSERT INTO coverage (archive, after_t, after_i, after_term, last_t, last_i, last_term)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for Coverage { after, last } in pieces {
        statement.execute(params![archive, after.ts.t, after.ts.i, after.term, last.ts.t, last.ts.i, last.term])?;
    }
    Ok(())
}

/// Notes what the slices that are left cover. They come in order, so that few pieces are held at any time.
pub fn cover_again(t: &Transaction<'_>, archive: i64) -> Result<()> {
    let mut statement = t.prepare_cached(&format!(
        "SELECT {POSITIONS} FROM slices s WHERE s.archive = ?1 AND NOT s.going
         ORDER BY s.after_t, s.after_i, s.last_t, s.last_i"
    ))?;
    let mut rows = statement.query([archive])?;
    let mut found: Vec<Coverage> = Vec::new();
    while let Some(row) = rows.next()? {
        let last = found.pop();
        found.extend(pitr::join(last.into_iter().chain([piece(row)?])));
    }
    // Joined once more: rows of one position in several terms do not come in the order of the terms.
    set_coverage(t, archive, &pitr::join(found))
}

/// What the slices tell that is worth seeing.
fn news(c: &Connection, archive: i64) -> Result<(Vec<Gap>, Vec<Mark>)> {
    let mut statement = c.prepare_cached(
        "SELECT gap, marks FROM slices WHERE archive = ?1 AND NOT going AND (gap IS NOT NULL OR marks IS NOT NULL)
         ORDER BY after_t, after_i",
    )?;
    let (mut gaps, mut marks) = (Vec::new(), Vec::new());
    let mut rows = statement.query([archive])?;
    while let Some(row) = rows.next()? {
        let gap: Option<Gap> = row.get::<_, Option<String>>(0)?.map(|json| from_json(&json)).transpose()?;
        gaps.extend(gap.filter(|gap| !gaps.contains(gap)));
        let told: Option<Vec<Mark>> = row.get::<_, Option<String>>(1)?.map(|json| from_json(&json)).transpose()?;
        for mark in told.into_iter().flatten() {
            if !marks.contains(&mark) {
                marks.push(mark);
            }
        }
    }
    Ok((gaps, marks))
}

pub fn piece(row: &Row<'_>) -> Result<Coverage> {
    let at = |i: usize| -> Result<OpTime> {
        Ok(OpTime { ts: Timestamp::new(row.get(i)?, row.get(i + 1)?), term: row.get(i + 2)? })
    };
    Ok(Coverage { after: at(0)?, last: at(3)? })
}

fn read(row: &Row<'_>) -> Result<Slice> {
    let Coverage { after, last } = piece(row)?;
    let number = |i: usize| -> Result<u64> { Ok(row.get::<_, i64>(i)? as u64) };
    let name: String = row.get(6)?;
    let prefix: String = row.get(16)?;
    Ok(Slice {
        key: Key::new(format!("{prefix}/{name}"))?.as_str().to_owned(),
        after,
        last,
        entries: number(7)?,
        operations: number(8)?,
        size: number(9)?,
        uncompressed: number(10)?,
        data_offset: number(11)?,
        blake3: row.get(12)?,
        recipients: match row.get::<_, Option<String>>(17)? {
            Some(json) => from_json(&json)?,
            None => Vec::new(),
        },
        written_at: time(row.get(13)?),
        gap: row.get::<_, Option<String>>(14)?.map(|json| from_json(&json)).transpose()?,
        marks: match row.get::<_, Option<String>>(15)? {
            Some(json) => from_json(&json)?,
            None => Vec::new(),
        },
        counts: Vec::new(),
    })
}

pub fn read_archive(row: &Row<'_>) -> Result<Archive> {
    Ok(Archive { storage: row.get(0)?, folder: row.get(1)?, replica_set: row.get(2)?, replica_set_id: row.get(3)? })
}
