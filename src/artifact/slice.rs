//! A stored piece of the oplog.
//!
//! ```text
//! <folder>/oplog/<replica set>-<its id>/<first>_<last>.bson.zst
//! ```
//!
//! The object is what `zstd -d` turns into plain oplog entries, one after another. In front of them stands a frame that
//! decompressors skip (RFC 8878, 3.1.2), with a JSON description of the slice: a listing and the first bytes of each object
//! are enough to know everything that can be restored. One object, written as a whole: a slice is there or it is not.
//!
//! An encrypted slice (`.bson.zst.age`) must begin as an age file does, so that its description stands in the header of
//! that: as a stanza that says nothing to any key, which stock tools pass over. Its body is the JSON, compressed, because
//! some readers take long for long headers. So everybody can read the description, and whoever decrypts the entries knows
//! that it is the one they were written with.

use std::collections::HashSet;

use age_core::format::{FileKey, Stanza};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::checksummed_json;
use super::codec::{ENCRYPTED, seal_with};
use super::layout::{FORMAT_VERSION, escape};
use crate::domain::encryption::Encryption;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, Gap, Mark, OpTime, Slice};
use crate::domain::text;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result, io};

/// Marks a frame that every zstd decompressor skips.
const SKIPPABLE: u32 = 0x184D_2A5B;
const FRAME_HEAD: usize = 8;

/// What is read of an object to find its description; nearly all fit.
pub const FIRST_READ: u64 = 16 << 10;
/// No description is longer.
const MAX_DESCRIPTION: usize = 8 << 20;

const SUFFIX: &str = ".bson.zst";

/// How an age file begins, how the stanza of the description in it, and how the line that ends its header.
const AGE: &[u8] = b"age-encryption.org/v1\n";
const STANZA: &str = "mongokeep-slice";
const STANZA_LINE: &str = "-> mongokeep-slice zstd\n";
const FOOTER: &[u8] = b"\n--- ";
/// Of the body of a stanza.
const COLUMNS: usize = 64;
/// What age adds to a payload: a nonce at its beginning, and a tag for each chunk.
const NONCE: u64 = 16;
const CHUNK: u64 = 64 << 10;
const TAG: u64 = 16;

/// The description at the head of a slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format_version: u32,
    pub tool_version: String,
    pub service: String,
    pub replica_set: String,
    pub replica_set_id: String,
    /// The member it was read from, `host:port`.
    pub member: String,
    pub server_version: String,
    pub home_id: String,
    pub written_at: DateTime<Utc>,
    /// The last entry before the slice, its first, and its last.
    pub after: OpTime,
    pub first_ts: Timestamp,
    pub last: OpTime,
    pub entries: u64,
    pub operations: u64,
    /// Bytes of BSON, and bytes and BLAKE3 of the frames after this one. Of an encrypted slice the bytes before encryption,
    /// and no checksum, which would tell something of what they are.
    pub uncompressed: u64,
    pub data_size: u64,
    pub blake3: String,
    /// Whom the entries are encrypted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    pub gap: Option<Gap>,
    pub marks: Vec<Mark>,
    pub counts: Vec<(u32, u32)>,
}

/// The folder of an archive.
pub fn folder(archive: &Archive) -> Result<Key> {
    crate::domain::name::check_folder("folder", &archive.folder)?;
    let below = format!("oplog/{}-{}", escape(&archive.replica_set), escape(&archive.replica_set_id));
    if archive.folder.is_empty() { Key::new(below) } else { Key::new(format!("{}/{below}", archive.folder)) }
}

fn position(ts: Timestamp) -> String {
    format!("{:010}-{:010}", ts.t, ts.i)
}

/// Where a slice of these positions lies.
pub fn key(archive: &Archive, first: Timestamp, last: Timestamp, is_encrypted: bool) -> Result<Key> {
    let encrypted = if is_encrypted { ENCRYPTED } else { "" };
    folder(archive)?.join(&format!("{}_{}{SUFFIX}{encrypted}", position(first), position(last)))
}

/// First and last position of the slice with this file name; `None` for any other object.
pub fn positions(file_name: &str) -> Option<(Timestamp, Timestamp)> {
    let (first, last) = file_name.strip_suffix(ENCRYPTED).unwrap_or(file_name).strip_suffix(SUFFIX)?.split_once('_')?;
    let parse = |text: &str| {
        let (t, i) = text.split_once('-')?;
        let digits = |s: &str| (s.len() == 10 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
        Some(Timestamp::new(digits(t)?, digits(i)?))
    };
    Some((parse(first)?, parse(last)?))
}

/// A slice as it is stored.
pub struct Object {
    /// Its bytes, one piece after the other.
    pub pieces: Vec<Bytes>,
    /// Bytes of the description at its beginning.
    pub frame: u64,
}

/// The description as a stanza: it wraps no key.
struct Described(Vec<u8>);

impl age::Recipient for Described {
    fn wrap_file_key(&self, _: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let stanza = Stanza { tag: STANZA.into(), args: vec!["zstd".into()], body: self.0.clone() };
        Ok((vec![stanza], HashSet::new()))
    }
}

impl Header {
    /// The slice of the compressed entries `data`. For a thread that may block.
    pub fn object(&self, data: Bytes) -> Result<Object> {
        let Some(encryption) = &self.encryption else {
            let frame = self.to_frame()?;
            return Ok(Object { frame: frame.len() as u64, pieces: vec![frame, data] });
        };
        let body = zstd::encode_all(&checksummed_json::to_bytes(self)?[..], 3)
            .map_err(|e| io("compressing the description of a slice", e))?;
        let sealed = seal_with(&encryption.recipients, &Described(body), &data)?;
        let frame = header_end(&sealed)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "an encrypted slice has no end of its header"))?;
        Ok(Object { frame: frame as u64, pieces: vec![sealed.into()] })
    }

    /// The frame that stands before the compressed entries.
    pub fn to_frame(&self) -> Result<Bytes> {
        let body = checksummed_json::to_bytes(self)?;
        let size = u32::try_from(body.len()).ok().filter(|n| *n as usize <= MAX_DESCRIPTION).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the description of a slice has {} bytes", body.len()))
        })?;
        let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
        frame.extend_from_slice(&SKIPPABLE.to_le_bytes());
        frame.extend_from_slice(&size.to_le_bytes());
        frame.extend_from_slice(&body);
        Ok(frame.into())
    }

    /// How many bytes the description has that begins with `head`, of an object of `size` bytes. More than `head` has: so
    /// many are needed before it can be read, or told how many it has.
    ///
    /// Errors: `Corrupt` when it is no slice; `place` names it.
    pub fn frame_size(place: &str, head: &[u8], size: u64) -> Result<usize> {
        let corrupt = || {
            let place = text::escape(place);
            Error::new(ErrorKind::Corrupt, format!("{place} is damaged: it does not begin with its description"))
        };
        if head.starts_with(AGE) {
            return match header_end(head) {
                Some(end) => Ok(end),
                None if head.len() as u64 >= size || head.len() > MAX_DESCRIPTION => Err(corrupt()),
                None => Ok((head.len() * 2).min(usize::try_from(size).unwrap_or(usize::MAX))),
            };
        }
        let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        if number(0) != Some(SKIPPABLE) {
            return Err(corrupt());
        }
        let size = number(4).map(|n| n as usize).filter(|n| *n <= MAX_DESCRIPTION).ok_or_else(corrupt)?;
        Ok(FRAME_HEAD + size)
    }

    /// Reads and checks the whole frame.
    ///
    /// Errors: `Unsupported` for a newer format, `Corrupt` for anything else that is not what was written.
    pub fn from_frame(place: &str, frame: &[u8]) -> Result<Self> {
        let size = Self::frame_size(place, frame, frame.len() as u64)?;
        let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("{} is damaged: {why}", text::escape(place)));
        let body = frame.get(..size).ok_or_else(|| corrupt("it is cut off"))?;
        let is_encrypted = body.starts_with(AGE);
        let header: Self = if is_encrypted {
            let body = described(body).ok_or_else(|| corrupt("its description cannot be read"))?;
            checksummed_json::from_bytes(place, &body, FORMAT_VERSION)?
        } else {
            checksummed_json::from_bytes(place, &body[FRAME_HEAD..], FORMAT_VERSION)?
        };
        if is_encrypted != header.encryption.as_ref().is_some_and(|encryption| !encryption.recipients.is_empty()) {
            return Err(corrupt("its description says otherwise whether it is encrypted"));
        }
        if header.after >= header.last || header.first_ts > header.last.ts || header.first_ts <= header.after.ts {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("{} is damaged: its positions make no sense", text::escape(place)),
            ));
        }
        Ok(header)
    }

    /// The slice as the catalogue knows it; `frame` is the size of the description in front of the entries.
    pub fn slice(&self, key: &Key, frame: u64) -> Slice {
        let is_encrypted = self.encryption.is_some();
        let payload = if is_encrypted { encrypted_size(self.data_size) } else { self.data_size };
        Slice {
            key: key.as_str().to_owned(),
            after: self.after,
            last: self.last,
            entries: self.entries,
            operations: self.operations,
            // What a header says may be anything; the size of the object shows it.
            size: frame.saturating_add(payload),
            uncompressed: self.uncompressed,
            // An age file is read from its beginning.
            data_offset: if is_encrypted { 0 } else { frame },
            blake3: self.blake3.clone(),
            recipients: self.encryption.as_ref().map(|encryption| encryption.recipients.clone()).unwrap_or_default(),
            written_at: self.written_at,
            gap: self.gap.clone(),
            marks: self.marks.clone(),
            counts: self.counts.clone(),
        }
    }
}

/// Where the payload of an age file begins.
fn header_end(head: &[u8]) -> Option<usize> {
    let footer = memchr::memmem::find(head, FOOTER)? + FOOTER.len();
    Some(footer + memchr::memchr(b'\n', head.get(footer..)?)? + 1)
}

/// The bytes that age makes of `plain` bytes, behind its header.
fn encrypted_size(plain: u64) -> u64 {
    let chunks = plain.div_ceil(CHUNK).max(1);
    plain.saturating_add(NONCE).saturating_add(chunks.saturating_mul(TAG))
}

/// The description in the header of an age file.
fn described(header: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(header).ok()?;
    let (_, body) = text.split_once(STANZA_LINE)?;
    let mut packed = String::new();
    for line in body.lines() {
        packed.push_str(line);
        // The last line of a body is a short one, if need be an empty one.
        if line.len() < COLUMNS {
            break;
        }
    }
    let packed = STANDARD_NO_PAD.decode(packed).ok()?;
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(&packed[..]).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, MAX_DESCRIPTION as u64), &mut plain).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let at = |t, i| OpTime { ts: Timestamp::new(t, i), term: 3 };
        Header {
            format_version: FORMAT_VERSION,
            tool_version: "1".into(),
            service: "s".into(),
            replica_set: "rs0".into(),
            replica_set_id: "0123456789abcdef01234567".into(),
            member: "h:1".into(),
            server_version: "6.0.5".into(),
            home_id: "home".into(),
            written_at: DateTime::UNIX_EPOCH,
            after: at(1_790_000_000, 4),
            first_ts: Timestamp::new(1_790_000_001, 1),
            last: at(1_790_000_060, 2),
            entries: 2,
            operations: 1,
            uncompressed: 300,
            data_size: 100,
            blake3: "00".into(),
            encryption: None,
            gap: None,
            marks: Vec::new(),
            counts: vec![(1_790_000_001, 1)],
        }
    }

    fn archive() -> Archive {
        Archive {
            storage: "t".into(),
            folder: "prod".into(),
            replica_set: "../rs 0".into(),
            replica_set_id: "0123456789abcdef01234567".into(),
        }
    }

    #[test]
    fn a_name_tells_the_positions_and_stays_in_its_folder() {
        let (first, last) = (Timestamp::new(7, 1), Timestamp::new(1_790_000_060, 4_000_000_000));
        let key = key(&archive(), first, last, false).unwrap();
        assert_eq!(
            key.as_str(),
            "prod/oplog/..%2Frs+0-0123456789abcdef01234567/0000000007-0000000001_1790000060-4000000000.bson.zst"
        );
        assert_eq!(positions(key.file_name()), Some((first, last)));
        assert_eq!(positions(&format!("{}.age", key.file_name())), Some((first, last)));
        for other in ["lease.json", "7-1_8-1.bson.zst", "x.bson.zst", "0000000007-0000000001.bson.zst"] {
            assert_eq!(positions(other), None, "{other}");
        }
    }

    #[test]
    fn a_description_comes_back_and_damage_is_found() {
        let frame = header().to_frame().unwrap();
        assert_eq!(Header::frame_size("x", &frame[..8], 1 << 20).unwrap(), frame.len());
        assert_eq!(Header::from_frame("x", &frame).unwrap(), header());
        for at in 0..frame.len() {
            let mut damaged = frame.to_vec();
            damaged[at] ^= 1;
            assert!(Header::from_frame("x", &damaged).is_err(), "byte {at}");
        }
        assert!(Header::from_frame("x", &frame[..frame.len() - 1]).is_err());
        let newer = Header { format_version: FORMAT_VERSION + 1, ..header() }.to_frame().unwrap();
        assert_eq!(Header::from_frame("x", &newer).unwrap_err().kind(), ErrorKind::Unsupported);
        let backwards = Header { last: header().after, ..header() }.to_frame().unwrap();
        assert_eq!(Header::from_frame("x", &backwards).unwrap_err().kind(), ErrorKind::Corrupt);
        let endless = Header { data_size: u64::MAX, ..header() };
        assert_eq!(endless.slice(&Key::new("a").unwrap(), 100).size, u64::MAX);
    }

    /// Everybody reads the description, and only a key the entries, with stock tools: that of age passes over what it does
    /// not know.
    #[test]
    fn an_encrypted_slice_is_an_age_file_that_describes_itself() {
        let (keys, encryption) = crate::artifact::keys::some();
        // Many seconds make a description that is longer than what is read of it at first.
        for (entries, seconds) in [(0, 0), (1, 1), (CHUNK, 100), (CHUNK + 1, 1), (200_000, 40_000)] {
            let entries: Vec<u8> = (0..entries).map(|n| (n * 7 % 251) as u8).collect();
            let counts = (0..seconds).map(|n| (1_790_000_000 + n, n * 31 % 1_000_003)).collect();
            let header = Header {
                encryption: Some(encryption.clone()),
                blake3: String::new(),
                data_size: entries.len() as u64,
                counts,
                ..header()
            };
            let object = header.object(entries.clone().into()).unwrap();
            let stored = object.pieces.concat();
            let mut known = stored.len().min(FIRST_READ as usize);
            let frame = loop {
                let frame = Header::frame_size("x", &stored[..known], stored.len() as u64).unwrap();
                if frame <= known {
                    break frame;
                }
                known = frame;
            };
            assert_eq!(frame as u64, object.frame);
            assert_eq!(Header::from_frame("x", &stored[..known]).unwrap(), header);
            let slice = header.slice(&Key::new("a.bson.zst.age").unwrap(), object.frame);
            assert_eq!((slice.size, slice.data_offset), (stored.len() as u64, 0));
            assert_eq!((slice.recipients, slice.blake3.as_str()), (encryption.recipients.clone(), ""));
            let mut plain = Vec::new();
            let mut decoder = crate::artifact::codec::Decoder::of("a.age", &stored[..], &keys).unwrap();
            std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
            assert_eq!(plain, entries);
        }
    }

    #[test]
    fn damage_of_an_encrypted_description_is_found() {
        let (_, encryption) = crate::artifact::keys::some();
        let header = Header { encryption: Some(encryption), blake3: String::new(), data_size: 7, ..header() };
        let stored = header.object(b"entries"[..].into()).unwrap().pieces.concat();
        let frame = header_end(&stored).unwrap();
        let body = memchr::memmem::find(&stored, STANZA_LINE.as_bytes()).unwrap() + STANZA_LINE.len();
        let end = body + memchr::memmem::find(&stored[body..], b"\n-> ").unwrap();
        for at in (0..AGE.len()).chain(body..end) {
            let mut damaged = stored.clone();
            damaged[at] ^= 1;
            // A bit of the compression that changes nothing of what it holds is none of its contents.
            let read = Header::from_frame("x", &damaged);
            assert!(read.is_err() || (at >= body && read.is_ok_and(|read| read == header)), "byte {at}");
        }
        for cut in [AGE.len(), body, frame - 1] {
            assert!(Header::from_frame("x", &stored[..cut]).is_err(), "cut at {cut}");
            assert!(Header::frame_size("x", &stored[..cut], cut as u64).is_err(), "cut at {cut}");
        }
        // What says that it is not encrypted is not believed.
        let plain = Header { encryption: None, ..header.clone() };
        let said = checksummed_json::to_bytes(&plain).unwrap();
        let lying =
            seal_with(&header.encryption.unwrap().recipients, &Described(zstd::encode_all(&said[..], 1).unwrap()), b"")
                .unwrap();
        assert_eq!(Header::from_frame("x", &lying).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    /// What stock tools see: the description is skipped.
    #[test]
    fn a_decompressor_skips_the_description() {
        let mut object = header().to_frame().unwrap().to_vec();
        object.extend(zstd::encode_all(&b"entries"[..], 1).unwrap());
        assert_eq!(zstd::decode_all(&object[..]).unwrap(), b"entries");
    }
}
