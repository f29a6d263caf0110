//! Archives made here, byte by byte. Those that mongodump makes are in `tests/it/mongodump`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crc_fast::{CrcAlgorithm, checksum};
use flate2::Compression;
use flate2::write::GzEncoder;
use mongodb::bson::{Document, Timestamp as T, doc};
use proptest::prelude::*;

use super::index::read;
use super::input::TERMINATOR;
use super::*;
use crate::domain::namespace::Namespace;
use crate::storage::filesystem::Filesystem;

/// An archive that is written block by block.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    written: BTreeMap<(String, String), Vec<u8>>,
}

impl Draft {
    fn listing(version: &str, collections: &[(&str, &str, &str)]) -> Self {
        let mut draft = Self::default();
        draft.bytes.extend(MAGIC);
        draft.document(&doc! {"concurrent_collections": 4, "version": version, "server_version": "8.0.4", "tool_version": "100.18.0"});
        for (db, collection, kind) in collections {
            let metadata =
                if db.is_empty() { String::new() } else { format!("{{\"collectionName\":\"{collection}\"}}") };
            draft
                .document(&doc! {"db": *db, "collection": *collection, "metadata": metadata, "size": 0, "type": *kind});
        }
        draft.bytes.extend(TERMINATOR);
        draft
    }

    fn document(&mut self, document: &Document) {
        self.bytes.extend(document.to_vec().unwrap());
    }

    fn block(&mut self, db: &str, collection: &str, documents: &[Document]) {
        self.document(&doc! {"db": db, "collection": collection, "EOF": false, "CRC": 0_i64});
        for document in documents {
            let bytes = document.to_vec().unwrap();
            self.written.entry((db.into(), collection.into())).or_default().extend(&bytes);
            self.bytes.extend(bytes);
        }
        self.bytes.extend(TERMINATOR);
    }

    fn end(&mut self, db: &str, collection: &str) {
        let written = self.written.entry((db.into(), collection.into())).or_default();
        let crc = checksum(CrcAlgorithm::Crc64Xz, written).cast_signed();
        self.document(&doc! {"db": db, "collection": collection, "EOF": true, "CRC": crc});
        self.bytes.extend(TERMINATOR);
    }
}

fn items(numbers: std::ops::Range<i32>, filling: usize) -> Vec<Document> {
    numbers
        .map(|n| doc! {"_id": n, "s": if filling < 100 { format!("{n:x}").repeat(filling) } else { noise(n, filling) }})
        .collect()
}

/// Text that is hardly made smaller.
fn noise(seed: i32, length: usize) -> String {
    let mut state = u64::from(seed.unsigned_abs()) | 1 << 40;
    let mut digit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from_digit((state >> 60) as u32, 16).unwrap()
    };
    (0..length).map(|_| digit()).collect()
}

fn entries(from: u32, to: u32) -> Vec<Document> {
    (from..=to).map(|n| doc! {"op": "n", "ts": T { time: n, increment: 1 }, "o": {}}).collect()
}

/// Two collections in between each other, an empty one, a view, a time series and an oplog.
fn draft(filling: usize) -> Draft {
    let listed = [
        ("shop", "a", "collection"),
        ("shop", "b b/c", "collection"),
        ("shop", "none", "collection"),
        ("shop", "v", "view"),
        ("iot", "weather", "timeseries"),
        ("", "oplog", ""),
    ];
    let mut draft = Draft::listing("0.1", &listed);
    draft.block("shop", "a", &items(0..40, filling));
    draft.block("shop", "b b/c", &items(100..130, filling));
    draft.block("shop", "none", &[]);
    draft.end("shop", "none");
    draft.block("shop", "a", &items(40..60, filling));
    draft.block("iot", "system.buckets.weather", &items(0..3, filling));
    draft.end("iot", "system.buckets.weather");
    draft.end("shop", "a");
    draft.block("shop", "v", &[]);
    draft.end("shop", "v");
    draft.block("shop", "b b/c", &items(130..140, filling));
    draft.end("shop", "b b/c");
    draft.block("", "oplog", &entries(10, 20));
    draft.end("", "oplog");
    draft
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn scan(bytes: &[u8], gzipped: bool) -> std::result::Result<Index, Vec<Wrong>> {
    read(bytes, gzipped, true, |_, _| {})
}

fn why(wrong: &[Wrong]) -> String {
    wrong.iter().map(words).collect::<Vec<_>>().join("; ")
}

#[test]
fn an_archive_is_read_for_what_it_holds() {
    let draft = draft(3);
    for (bytes, is_gzipped) in [(draft.bytes.clone(), false), (gzipped(&draft.bytes), true)] {
        assert_eq!(kind(&bytes), Some(is_gzipped));
        let index = scan(&bytes, is_gzipped).unwrap();
        assert_eq!((&*index.server_version, &*index.tool_version, index.listed.len()), ("8.0.4", "100.18.0", 6));
        assert_eq!((index.contents.len(), index.documents()), (6, 103));
        let (from, to) = index.oplog.unwrap();
        assert_eq!((from.t, to.t), (10, 20));
        for (ns, contents) in &index.contents {
            let written = &draft.written[&(ns.db.clone(), ns.collection.clone())];
            let gathered: Vec<u8> = contents
                .blocks
                .iter()
                .flat_map(|(at, n)| &draft.bytes[*at as usize..(at + n) as usize])
                .copied()
                .collect();
            assert!(gathered == *written && contents.bytes == written.len() as u64, "{ns}");
        }
    }
    // As mongodump 4.2 wrote it.
    let mut old = Draft { bytes: MAGIC.to_vec(), ..Draft::default() };
    old.document(
        &doc! {"concurrent_collections": 4, "version": "0.1", "server_version": "4.2.1", "tool_version": "r4.2.1"},
    );
    old.document(&doc! {"db": "shop", "collection": "a", "metadata": "{}", "size": 0});
    old.bytes.extend(TERMINATOR);
    old.end("shop", "a");
    assert_eq!(scan(&old.bytes, false).unwrap().listed[0].kind, "");
    for other in [&b"\x1f\x8b\x08"[..], b"PK\x03\x04", &gzipped(b"something else"), &[0x6d, 0xe2]] {
        assert_eq!(kind(other), None);
    }
}

/// Wherever it is cut, it is incomplete, and what is missing is named.
#[test]
fn no_part_of_an_archive_is_taken_for_all_of_it() {
    let plain = draft(3).bytes;
    for cut in 0..plain.len() {
        let wrong = scan(&plain[..cut], false).unwrap_err();
        assert!(why(&wrong).contains("not complete"), "{cut}: {}", why(&wrong));
    }
    let stored = gzipped(&plain);
    for cut in 0..stored.len() {
        let wrong = scan(&stored[..cut], true).unwrap_err();
        assert!(why(&wrong).contains("not complete"), "{cut}: {}", why(&wrong));
    }
    // At the end of a block, as when mongodump was interrupted.
    let mut draft =
        Draft::listing("0.1", &[("shop", "a", ""), ("shop", "b", ""), ("x", "c", ""), ("x", "d", ""), ("x", "e", "")]);
    draft.block("shop", "b", &items(0..2, 1));
    draft.end("shop", "b");
    draft.block("shop", "a", &items(0..2, 1));
    let wrong = why(&scan(&draft.bytes, false).unwrap_err());
    assert!(wrong.contains("before the end of shop.a, x.c, x.d, 1 more"), "{wrong}");
}

#[test]
fn what_mongodump_does_not_write_is_refused_by_its_name() {
    let refused = |bytes: &[u8]| why(&scan(bytes, false).unwrap_err());
    let of_a = || Draft::listing("0.1", &[("shop", "a", "")]);
    let later = Draft::listing("0.2", &[]);
    assert!(refused(&later.bytes).contains("format version 0.2"));
    let mut two = of_a();
    two.end("shop", "a");
    two.bytes.extend(of_a().bytes);
    assert!(refused(&two.bytes).contains("a second archive begins at byte"));
    let gz = why(&scan(&gzipped(&two.bytes), true).unwrap_err());
    assert!(gz.contains("a second archive"), "{gz}");

    let mut draft = of_a();
    draft.block("shop", "b", &items(0..1, 1));
    assert!(refused(&draft.bytes).contains("holds documents of shop.b, which it does not list"));
    let mut draft = of_a();
    draft.end("shop", "a");
    draft.block("shop", "a", &items(0..1, 1));
    assert!(refused(&draft.bytes).contains("documents of shop.a come after its end"));
    let mut draft = of_a();
    draft.bytes.extend(TERMINATOR);
    assert!(refused(&draft.bytes).contains("does not say whose it is"));
    for length in [4_i32, -2, i32::MAX] {
        let mut draft = of_a();
        draft.document(&doc! {"db": "shop", "collection": "a", "EOF": false, "CRC": 0_i64});
        draft.bytes.extend(length.to_le_bytes());
        assert!(refused(&draft.bytes).contains("no document of an archive"), "{length}");
    }
    let twice = Draft::listing("0.1", &[("shop", "a", ""), ("shop", "a", "")]);
    assert!(refused(&twice.bytes).contains("lists shop.a twice"));
    let mut draft = Draft::listing("0.1", &[("", "oplog", "")]);
    draft.block("", "oplog", &entries(5, 6));
    draft.block("", "oplog", &entries(3, 4));
    assert!(refused(&draft.bytes).contains("its oplog goes back"));
}

#[test]
fn damage_to_one_collection_does_not_hide_that_to_another() {
    let mut draft = Draft::listing("0.1", &[("shop", "a", ""), ("shop", "b", ""), ("shop", "c", "")]);
    for name in ["a", "b", "c"] {
        draft.block("shop", name, &items(0..2, 4));
        draft.end("shop", name);
    }
    let text: Vec<usize> =
        draft.bytes.windows(4).enumerate().filter(|(_, w)| *w == b"1111").map(|(at, _)| at).collect();
    let mut bytes = draft.bytes.clone();
    bytes[text[0]] = b'x';
    bytes[text[2]] = b'x';
    let wrong = why(&scan(&bytes, false).unwrap_err());
    assert!(
        wrong.contains("checksum of shop.a") && wrong.contains("checksum of shop.c") && !wrong.contains("shop.b"),
        "{wrong}"
    );
}

async fn opened(folder: &Path, bytes: &[u8]) -> ArchivedFolder {
    std::fs::write(folder.join("all.archive"), bytes).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let archive = find(storage.as_ref(), &Key::new("all.archive").unwrap()).await.unwrap();
    let index = index(storage.as_ref(), &archive).await.unwrap();
    ArchivedFolder::new(storage, archive, index, |ns: &Namespace| {
        format!("{}/{}", ns.db, ns.collection.replace('/', "-"))
    })
}

async fn gathered(folder: &ArchivedFolder, path: &str, range: Option<Range<u64>>) -> Vec<u8> {
    let key = Key::new(format!("all.archive/{path}")).unwrap();
    let chunks: Vec<bytes::Bytes> = folder.get(&key, range).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_collection_is_read_by_itself_from_any_byte_to_any() {
    // Large enough for several points at which a gzipped one is entered.
    let draft = draft(150_000);
    for bytes in [draft.bytes.clone(), gzipped(&draft.bytes)] {
        let temporary = tempfile::tempdir().unwrap();
        let folder = opened(temporary.path(), &bytes).await;
        for (path, of) in
            [("shop/a", ("shop", "a")), ("shop/b b-c", ("shop", "b b/c")), ("shop/none", ("shop", "none"))]
        {
            let written = &draft.written[&(of.0.to_owned(), of.1.to_owned())];
            assert!(gathered(&folder, path, None).await == *written, "{path}");
            let n = written.len() as u64;
            for range in [0..n, n / 3..n / 2, n / 2..n, n..n] {
                let expected = &written[range.start as usize..range.end as usize];
                assert!(gathered(&folder, path, Some(range.clone())).await == expected, "{path} {range:?}");
            }
            let key = Key::new(format!("all.archive/{path}")).unwrap();
            assert!(folder.get(&key, Some(0..n + 1)).await.is_err());
        }
        // A reader that is slow holds up nobody.
        let mut slow = folder.get(&Key::new("all.archive/shop/a").unwrap(), None).await.unwrap();
        let first = slow.try_next().await.unwrap().unwrap();
        assert!(gathered(&folder, "shop/b b-c", None).await == draft.written[&("shop".to_owned(), "b b/c".to_owned())]);
        let rest: Vec<bytes::Bytes> = slow.try_collect().await.unwrap();
        let whole = [&first[..], &rest.concat()].concat();
        assert!(whole == draft.written[&("shop".to_owned(), "a".to_owned())]);
    }
}

/// An archive that was replaced is read again, whatever was known of the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_an_archive_is_not_taken_for_another() {
    let temporary = tempfile::tempdir().unwrap();
    let first = opened(temporary.path(), &draft(3).bytes).await;
    let mut other = Draft::listing("0.1", &[("shop", "a", "")]);
    other.block("shop", "a", &items(0..3, 50));
    other.end("shop", "a");
    let second = opened(temporary.path(), &other.bytes).await;
    assert!(first.stat(&Key::new("all.archive/shop/none").unwrap()).await.unwrap().is_some());
    assert!(gathered(&second, "shop/a", None).await == other.written[&("shop".to_owned(), "a".to_owned())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A description may have been changed and make sense still; a document never.
    #[test]
    fn no_changed_document_comes_back_as_good(at: prop::sample::Index, flip in 1_u8..=255, more in 0_usize..40, is_gzipped: bool) {
        let draft = draft(2);
        let good = scan(&draft.bytes, false).unwrap();
        let mut bytes = if is_gzipped { gzipped(&draft.bytes) } else { draft.bytes.clone() };
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // Sometimes a whole run of bytes.
        for byte in bytes.iter_mut().skip(at + 1).take(more.saturating_sub(20)) {
            *byte = byte.wrapping_mul(31).wrapping_add(flip);
        }
        if let Ok(read) = scan(&bytes, is_gzipped) {
            let crcs = |index: &Index| index.contents.values().map(|c| (c.crc64, c.bytes)).collect::<Vec<_>>();
            prop_assert_eq!(crcs(&read), crcs(&good));
        }
    }

    #[test]
    fn anything_at_all_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), is_gzipped: bool) {
        let bytes = [&MAGIC[..], &bytes].concat();
        prop_assert!(scan(&bytes, is_gzipped).is_err());
    }
}
