use super::*;
use std::io::Write;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use proptest::prelude::*;

use crate::artifact::codec::Codec;
use crate::artifact::keys;
use crate::domain::backup::Compression;
use crate::domain::encryption::Encryption;
use crate::storage::{Level, ObjectInfo, PutMode, Upload};

/// One object in memory, sent in chunks of a given size. A storage cannot be made to cut its chunks at will.
struct One(Bytes, usize);

fn not_here<T>() -> Result<T> {
    Err(Error::new(ErrorKind::NotFound, "not here"))
}

#[async_trait]
impl Storage for One {
    fn place(&self) -> String {
        "memory".into()
    }
    fn part_size(&self) -> usize {
        self.1
    }
    async fn put(&self, _: &Key, _: Bytes, _: PutMode) -> Result<()> {
        not_here()
    }
    async fn upload(&self, _: &Key) -> Result<Box<dyn Upload>> {
        not_here()
    }
    async fn get(&self, key: &Key, _: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        if key.as_str().starts_with("missing") {
            return not_here();
        }
        let chunks: Vec<_> = self.0.chunks(self.1).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Ok(stream::iter(chunks).boxed())
    }
    async fn stat(&self, _: &Key) -> Result<Option<ObjectInfo>> {
        Ok(None)
    }
    async fn list(&self, _: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        not_here()
    }
    async fn list_level(&self, _: Option<&Key>) -> Result<Level> {
        not_here()
    }
    async fn delete(&self, _: &Key) -> Result<()> {
        not_here()
    }
    async fn sweep_older(&self, _: &Key, _: std::time::Duration) -> Result<u64> {
        not_here()
    }
    async fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

fn documents(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes
        .iter()
        .enumerate()
        .map(|(n, size)| {
            let mut w = bson::Writer::default();
            w.i32("_id", n as i32).str("s", &"x".repeat(*size));
            w.finish()
        })
        .collect()
}

/// The keys of the tests that encrypt, and what they open.
fn lock() -> &'static (Keys, Encryption) {
    static LOCK: std::sync::OnceLock<(Keys, Encryption)> = std::sync::OnceLock::new();
    LOCK.get_or_init(keys::some)
}

fn compress(plain: &[u8], suffix: &str) -> Vec<u8> {
    if let Some(inner) = suffix.strip_suffix(".age") {
        return Codec::new(Compression::None).encrypted_to(Some(&lock().1)).encode(&compress(plain, inner)).unwrap();
    }
    match suffix {
        ".zst" => zstd::encode_all(plain, 1).unwrap(),
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        _ => plain.to_vec(),
    }
}

fn entry(stored: &[u8], plain: &[u8], documents: usize) -> ObjectEntry {
    ObjectEntry {
        path: String::new(),
        size: stored.len() as u64,
        blake3: blake3::hash(stored).to_hex().to_string(),
        uncompressed: plain.len() as u64,
        documents: documents as u64,
    }
}

async fn all(stored: Vec<u8>, chunk: usize, name: &str, entry: &ObjectEntry, batch: usize) -> Result<Vec<Vec<u8>>> {
    let options = ReadOptions { batch_bytes: batch, batch_documents: 7, check_structure: true };
    let storage = Arc::new(One(stored.into(), chunk));
    let mut reader = Documents::open(storage, Key::new(name)?, entry, &lock().0, options);
    let mut out = Vec::new();
    while let Some(batch) = reader.next().await {
        let batch = batch?;
        assert!(batch.len() <= 7 && !batch.is_empty());
        out.extend(batch.documents().map(<[u8]>::to_vec));
    }
    Ok(out)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn comes_back_however_it_is_cut(
        sizes in prop::collection::vec(0usize..3000, 0..40), chunk in 1usize..5000, batch in 16usize..4000,
        suffix in prop::sample::select(vec![".zst", ".gz", "", ".zst.age", ".gz.age", ".age"]), twice: bool,
    ) {
        let docs = documents(&sizes);
        let plain = docs.concat();
        // Several frames one after another are one stream, as `cat | zstd -d` reads it.
        let middle: usize = docs.iter().take(docs.len() / 2).map(Vec::len).sum();
        let stored = if twice && !suffix.is_empty() && !suffix.ends_with(".age") {
            [compress(&plain[..middle], suffix), compress(&plain[middle..], suffix)].concat()
        } else {
            compress(&plain, suffix)
        };
        let entry = entry(&stored, &plain, docs.len());
        let got = block_on(all(stored, chunk, &format!("a/00000.bson{suffix}"), &entry, batch)).unwrap();
        prop_assert_eq!(got, docs);
    }

    #[test]
    fn any_flipped_or_missing_byte_is_found(
        at: prop::sample::Index, flip in 1u8..=255, cut: bool,
        suffix in prop::sample::select(vec![".zst", ".gz", "", ".zst.age", ".gz.age", ".age"]),
    ) {
        let docs = documents(&[10, 500, 3]);
        let plain = docs.concat();
        let mut stored = compress(&plain, suffix);
        let entry = entry(&stored, &plain, docs.len());
        let at = at.index(stored.len());
        if cut { stored.truncate(at) } else { stored[at] ^= flip }
        let error = block_on(all(stored, 100, &format!("a/b.bson{suffix}"), &entry, 200)).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        prop_assert!(error.full().contains("a/b.bson"), "{}", error);
    }
}

/// An identity that is missing, or another, says nothing of the object.
#[test]
fn what_cannot_be_opened_is_not_called_damaged() {
    let docs = documents(&[10]);
    let plain = docs.concat();
    let stored = compress(&plain, ".zst.age");
    let entry = entry(&stored, &plain, docs.len());
    let storage: Arc<dyn Storage> = Arc::new(One(stored.into(), 100));
    let key = Key::new("a.bson.zst.age").unwrap();
    let read = async {
        let mut reader =
            Documents::open(storage.clone(), key.clone(), &entry, &Keys::default(), ReadOptions::default());
        reader.next().await.unwrap().unwrap_err()
    };
    let error = block_on(read);
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.full().contains("a.bson.zst.age"), "{error}");
    let small = block_on(read_small(storage.as_ref(), &key, &entry, &Keys::default())).unwrap_err();
    assert_eq!(small.kind(), ErrorKind::Unauthenticated);
    assert_eq!(block_on(read_small(storage.as_ref(), &key, &entry, &lock().0)).unwrap(), plain);
}

/// A slice that is encrypted has no checksum; without encryption an empty one is no excuse.
#[test]
fn only_what_is_encrypted_needs_no_checksum() {
    let docs = documents(&[10, 20]);
    let plain = docs.concat();
    for (suffix, is_read) in [(".zst.age", true), (".zst", false)] {
        let stored = compress(&plain, suffix);
        let entry = ObjectEntry { blake3: String::new(), ..entry(&stored, &plain, docs.len()) };
        let read = block_on(all(stored, 100, &format!("a.bson{suffix}"), &entry, 200));
        assert_eq!(read.is_ok(), is_read, "{suffix}");
    }
}

#[test]
fn a_missing_object_is_named() {
    let error = block_on(all(vec![], 1, "missing.bson", &entry(b"", b"", 0), 100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.full().contains("missing.bson is missing in memory"), "{error}");
}

#[test]
fn counts_must_agree() {
    let plain = documents(&[1, 2]).concat();
    let error = block_on(all(plain.clone(), 9, "a.bson", &entry(&plain, &plain, 3), 100)).unwrap_err();
    assert!(error.full().contains("2 documents"), "{error}");
}

/// A few bytes can hold very much: no more of it is taken than was written.
#[test]
fn what_holds_more_than_was_written_is_not_read_to_its_end() {
    let plain = documents(&[10; 1000]).concat();
    let stored = compress(&plain, ".zst");
    let options = ReadOptions { batch_bytes: 100, ..ReadOptions::default() };
    let few = entry(&stored, &plain[..300], 10);
    let (documents, error) = block_on(async {
        let storage = Arc::new(One(stored.clone().into(), 9));
        let mut reader = Documents::open(storage, Key::new("a.bson.zst").unwrap(), &few, &Keys::default(), options);
        let mut count = 0;
        loop {
            match reader.next().await.unwrap() {
                Ok(batch) => count += batch.len(),
                Err(e) => {
                    assert!(reader.next().await.is_none());
                    break (count, e);
                }
            }
        }
    });
    assert!(documents <= 10, "{documents}");
    assert!(error.full().contains("more than was written"), "{error}");
}
