//! What takes long of what `Storage` promises: listings of many pages, and one object far above every small limit.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use mongokeep::domain::storage::StorageConfig;
use mongokeep::storage::filesystem::Filesystem;
use mongokeep::storage::{ObjectWriter, PutMode, Storage};

use crate::support::cloud_servers::{Azurite, FakeGcs};
use crate::support::objects::key;
use crate::support::s3::S3Server;
use crate::support::s3_servers::{Keeps, Server};

/// Ten pages of an object store.
const MANY: usize = 10_000;
const LARGE: u64 = 5 << 30;
const CHUNK: usize = 8 << 20;
/// What may be held of an object that is written: a few parts, and what the allocator keeps of them.
const MOST_MEMORY: u64 = 300 << 20;

async fn of(config: impl Into<StorageConfig>) -> Arc<dyn Storage> {
    mongokeep::storage::open(&config.into()).await.unwrap()
}

pub async fn ten_thousand_objects_are_listed_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, azurite, fake) = tokio::join!(Server::versitygw(Keeps::Nothing), Azurite::start(), FakeGcs::start());
    let mut storages: Vec<(&str, Arc<dyn Storage>)> =
        vec![("a folder", Arc::new(Filesystem::new(folder.path())) as Arc<dyn Storage>)];
    if let Some(gateway) = &gateway {
        storages.push((gateway.name, of(&gateway.config).await));
    }
    if let Some(azurite) = &azurite {
        storages.push(("Azurite", of(&azurite.config()).await));
    }
    if let Some(fake) = &fake {
        storages.push(("fake-gcs-server", of(&fake.config()).await));
    }
    for (name, storage) in storages {
        let names: Vec<String> = (0..MANY).map(|n| format!("many/{:02}/{n:05}", n % 20)).collect();
        let puts = names.iter().map(|at| {
            let storage = Arc::clone(&storage);
            async move { storage.put(&key(at), Bytes::from_static(b"x"), PutMode::Overwrite).await.unwrap() }
        });
        futures_util::stream::iter(puts).buffer_unordered(16).collect::<Vec<()>>().await;
        let mut wanted = names;
        wanted.sort();
        let listed: Vec<_> = storage.list(Some(&key("many"))).await.unwrap().try_collect().await.unwrap();
        assert_eq!(listed.len(), MANY, "{name}");
        assert!(listed.iter().zip(&wanted).all(|(object, at)| object.key.as_str() == at && object.size == 1), "{name}");
        assert_eq!(storage.list_folders(Some(&key("many"))).await.unwrap().len(), 20, "{name}");
        eprintln!("{name}: {MANY} objects");
    }
}

/// Nothing but zeros, which a disk may keep as nothing; sent and read as a stream, with little memory. Not with versitygw, which
/// keeps the list of parts in an extended attribute: on ext4 there is no room for that of some hundred parts.
pub async fn an_object_of_5_gib_is_streamed() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start().await;
    let storages = [
        ("a folder", Arc::new(Filesystem::new(folder.path())) as Arc<dyn Storage>),
        ("s3s-fs", of(&server.config()).await),
    ];
    // Other tests of this program have had their memory before, and have it beside.
    let before = peak();
    for (name, storage) in storages {
        let at = key("large/zeros");
        let chunk = Bytes::from(vec![0; CHUNK]);
        let mut writer = ObjectWriter::new(Arc::clone(&storage), at.clone());
        for _ in 0..LARGE / CHUNK as u64 {
            writer.write(chunk.clone()).await.unwrap();
        }
        // One byte that is none of them, so that its end is its end.
        writer.write(Bytes::from_static(b"!")).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(storage.stat(&at).await.unwrap().unwrap().size, LARGE + 1, "{name}");
        let mut stream = storage.get(&at, None).await.unwrap();
        let (mut bytes, mut last) = (0_u64, 0_u8);
        while let Some(chunk) = stream.try_next().await.unwrap() {
            bytes += chunk.len() as u64;
            // The last byte of a chunk may be the last of all.
            let Some((end, inner)) = chunk.split_last() else { continue };
            assert!(inner.iter().all(|byte| *byte == 0), "{name}: at {bytes}");
            last = *end;
        }
        assert_eq!((bytes, last), (LARGE + 1, b'!'), "{name}");
        let tail: Vec<Bytes> = storage.get(&at, Some(LARGE - 1..LARGE + 1)).await.unwrap().try_collect().await.unwrap();
        assert_eq!(tail.concat(), [0, b'!'], "{name}");
        storage.delete(&at).await.unwrap();
        eprintln!("{name}: 5 GiB, {} MiB of memory at most", peak() >> 20);
    }
    let more = peak() - before;
    assert!(more < MOST_MEMORY, "{} MiB more memory", more >> 20);
}

/// The most memory of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
