//! One suite for every storage: what `Storage` promises, tried against each backend, bare and behind the decorators.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use mongokeep::error::ErrorKind;
use mongokeep::storage::retry::{Backoff, Retrying};
use mongokeep::storage::{ObjectInfo, ObjectWriter, PutMode, Storage, read_all};
use tokio_util::sync::CancellationToken;

use crate::support::cloud_servers::{Azurite, FakeGcs};
use crate::support::objects::{key, noise};
use crate::support::s3_servers::{Keeps, Server};
use crate::support::stands::Stand;

/// One test for every case and every place.
macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        suite!(@place filesystem $($case)*);
        suite!(@place filesystem_decorated $($case)*);
        suite!(@place s3 $($case)*);
        suite!(@place s3_decorated $($case)*);
        suite!(@place s3_ignoring_conditions $($case)*);
        suite!(@place s3_refusing_conditions $($case)*);
        suite!(@place s3_counting_markers $($case)*);
        suite!(@place s3_refusing_checksums $($case)*);
        suite!(@place s3_wanting_md5 $($case)*);

        /// One process for all cases, each below a prefix of its own.
        async fn all_cases_on(server: Option<Server>) {
            // What is missing is told where it was looked for.
            let Some(server) = server else { return };
            $(
                println!("{}: {}", server.name, stringify!($case));
                let stand = Stand::on(&server, stringify!($case)).await;
                $case(&stand).await;
                stand.close().await;
            )*
        }

        /// The same of Azure, bare and as a job sees it.
        async fn all_cases_on_azure(server: Option<Azurite>) {
            let Some(server) = server else { return };
            $(
                println!("Azurite: {}", stringify!($case));
                let stand = Stand::azure(&server, stringify!($case)).await;
                $case(&stand).await;
                stand.close().await;
                let stand = Stand::azure(&server, concat!(stringify!($case), "_decorated")).await.decorated();
                $case(&stand).await;
                stand.close().await;
            )*
        }

        /// The same of Google.
        async fn all_cases_on_gcs(server: Option<FakeGcs>) {
            let Some(server) = server else { return };
            $(
                println!("fake-gcs-server: {}", stringify!($case));
                let stand = Stand::gcs(&server, stringify!($case)).await;
                $case(&stand).await;
                stand.close().await;
                let stand = Stand::gcs(&server, concat!(stringify!($case), "_decorated")).await.decorated();
                $case(&stand).await;
                stand.close().await;
            )*
        }
    };
    (@place $place:ident $($case:ident)*) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let stand = super::Stand::$place().await;
                    super::$case(&stand).await;
                    stand.close().await;
                }
            )*
        }
    };
}

suite!(
    an_object_is_written_read_and_looked_at,
    an_object_is_replaced,
    a_missing_object_is_told,
    an_empty_object_is_an_object,
    create_new_does_not_replace,
    of_two_writers_one_creates,
    a_name_that_was_deleted_can_be_taken_again,
    listing_is_in_key_order,
    a_prefix_ends_at_a_slash,
    a_long_listing_is_complete,
    folders_are_listed_without_what_is_in_them,
    deleting_removes_one_object,
    odd_keys_are_keys_like_others,
    every_printable_character_may_stand_in_a_key,
    a_range_is_read,
    parts_may_come_in_any_order_and_again,
    an_upload_is_visible_when_it_is_finished,
    an_aborted_upload_leaves_nothing,
    sweeping_ends_unfinished_uploads_below_a_prefix,
    a_missing_part_is_not_overlooked,
    the_writer_cuts_any_sizes,
    a_probe_leaves_nothing,
);

mod clouds {
    use super::{Azurite, FakeGcs, all_cases_on_azure, all_cases_on_gcs};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn azurite() {
        all_cases_on_azure(Azurite::start().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn fake_gcs_server() {
        all_cases_on_gcs(FakeGcs::start().await).await;
    }
}

mod servers_of_others {
    use super::{Keeps, Server, all_cases_on};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn versitygw() {
        all_cases_on(Server::versitygw(Keeps::Nothing).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn versitygw_versioned() {
        all_cases_on(Server::versitygw(Keeps::Versions).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn versitygw_locked() {
        all_cases_on(Server::versitygw(Keeps::Locked).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn moto() {
        all_cases_on(Server::moto().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn s3rver() {
        all_cases_on(Server::s3rver().await).await;
    }
}

async fn put(storage: &dyn Storage, at: &str, body: &'static str) {
    storage.put(&key(at), Bytes::from_static(body.as_bytes()), PutMode::Overwrite).await.unwrap();
}

async fn read(storage: &dyn Storage, at: &str) -> Bytes {
    read_all(storage, &key(at), 1 << 30).await.unwrap()
}

async fn keys(storage: &dyn Storage, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(key);
    let objects: Vec<_> = storage.list(prefix.as_ref()).await.unwrap().try_collect().await.unwrap();
    objects.into_iter().map(|o| o.key.to_string()).collect()
}

async fn an_object_is_written_read_and_looked_at(stand: &Stand) {
    let storage = stand.storage();
    put(storage, "a/b/c.json", "hello").await;
    assert_eq!(read(storage, "a/b/c.json").await, "hello");
    let info = storage.stat(&key("a/b/c.json")).await.unwrap().unwrap();
    assert_eq!((info.key.as_str(), info.size), ("a/b/c.json", 5));
    assert!(storage.stat(&key("a/b")).await.unwrap().is_none(), "a folder is no object");
}

async fn an_object_is_replaced(stand: &Stand) {
    let storage = stand.storage();
    put(storage, "a", "a long text").await;
    put(storage, "a", "short").await;
    assert_eq!(read(storage, "a").await, "short");
}

async fn a_missing_object_is_told(stand: &Stand) {
    let storage = stand.storage();
    assert!(storage.stat(&key("a/b")).await.unwrap().is_none());
    for range in [None, Some(0..1)] {
        let error = storage.get(&key("a/b"), range).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains("a/b"), "{error}");
    }
}

async fn an_empty_object_is_an_object(stand: &Stand) {
    let storage = stand.storage();
    put(storage, "put", "").await;
    let written = ObjectWriter::new(stand.shared(), key("written")).finish().await.unwrap();
    assert_eq!(written.size, 0);
    assert_eq!(written.blake3, blake3::hash(b"").to_hex().as_str());
    for at in ["put", "written"] {
        assert_eq!(storage.stat(&key(at)).await.unwrap().unwrap().size, 0);
        assert_eq!(read(storage, at).await, "");
    }
}

async fn create_new_does_not_replace(stand: &Stand) {
    let storage = stand.storage();
    storage.put(&key("a/b"), Bytes::from_static(b"first"), PutMode::CreateNew).await.unwrap();
    let error = storage.put(&key("a/b"), Bytes::from_static(b"second"), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(read(storage, "a/b").await, "first");
    assert_eq!(keys(storage, None).await, ["a/b"]);
}

async fn of_two_writers_one_creates(stand: &Stand) {
    for round in 0..10 {
        let at = key(&format!("attempts/{round}"));
        let writers = (0..4).map(|n| {
            let (storage, at) = (stand.shared(), at.clone());
            tokio::spawn(async move { storage.put(&at, Bytes::from(format!("writer {n}")), PutMode::CreateNew).await })
        });
        let results: Vec<_> = futures_util::future::join_all(writers).await.into_iter().map(|r| r.unwrap()).collect();
        let winners: Vec<usize> = results.iter().enumerate().filter(|(_, r)| r.is_ok()).map(|(n, _)| n).collect();
        for error in results.iter().filter_map(|r| r.as_ref().err()) {
            // s3rver fails while it replaces an object.
            let expected = error.kind() == ErrorKind::Conflict || (!stand.habits.exclusive && error.is_retryable());
            assert!(expected, "{error:?}");
        }
        if !stand.habits.exclusive {
            // Such a server lets several believe that they won; the object is still one of theirs, whole.
            assert!(!winners.is_empty());
            continue;
        }
        assert_eq!(winners.len(), 1, "{results:?}");
        // MinIO closes the connections of the losers, whose bodies it did not read.
        let storage = Retrying::new(stand.shared(), Backoff::default(), CancellationToken::new());
        assert_eq!(read(&storage, at.as_str()).await, format!("writer {}", winners[0]));
    }
}

async fn a_name_that_was_deleted_can_be_taken_again(stand: &Stand) {
    let storage = stand.storage();
    for body in ["first", "second", "third"] {
        storage.put(&key("a/attempt"), Bytes::from(body), PutMode::CreateNew).await.unwrap();
        assert_eq!(read(storage, "a/attempt").await, body);
        storage.delete(&key("a/attempt")).await.unwrap();
        assert!(storage.stat(&key("a/attempt")).await.unwrap().is_none());
        assert_eq!(storage.get(&key("a/attempt"), None).await.err().unwrap().kind(), ErrorKind::NotFound);
    }
    assert_eq!(keys(storage, None).await, [""; 0]);
}

async fn listing_is_in_key_order(stand: &Stand) {
    let storage = stand.storage();
    assert_eq!(keys(storage, None).await, [""; 0]);
    // By bytes, '-' and '.' come before '/', which comes before '0'.
    let sorted = ["A", "a-b/x", "a.b", "a/b/c", "a/b0", "a/c", "a0", "b/a"];
    for at in ["b/a", "a0", "a/c", "a/b/c", "a-b/x", "A", "a/b0", "a.b"] {
        put(storage, at, "x").await;
    }
    let mut all = keys(storage, None).await;
    if !stand.habits.ordered {
        all.sort_unstable();
    }
    assert_eq!(all, sorted);
    assert_eq!(keys(storage, Some("a")).await, ["a/b/c", "a/b0", "a/c"]);
}

async fn a_prefix_ends_at_a_slash(stand: &Stand) {
    let storage = stand.storage();
    for at in ["a/b/x", "a/bc/x", "a/b.json"] {
        put(storage, at, "x").await;
    }
    assert_eq!(keys(storage, Some("a/b")).await, ["a/b/x"]);
    assert_eq!(keys(storage, Some("a/b/x")).await, [""; 0], "an object is not below itself");
    assert_eq!(keys(storage, Some("none")).await, [""; 0]);
}

async fn a_long_listing_is_complete(stand: &Stand) {
    let names: Vec<String> = (0..stand.habits.many).map(|n| format!("many/{n:05}/x")).collect();
    futures_util::stream::iter(names.clone())
        .map(|at| {
            let storage = stand.shared();
            async move { put(&*storage, &at, "x").await }
        })
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
    assert_eq!(keys(stand.storage(), Some("many")).await, names);
    assert_eq!(stand.storage().list_folders(Some(&key("many"))).await.unwrap().len(), names.len());
    // A reader that stops early must not hang.
    let first = stand.storage().list(None).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first.key.as_str(), names[0]);
}

async fn folders_are_listed_without_what_is_in_them(stand: &Stand) {
    let storage = stand.storage();
    for at in ["p/backups/one/data/x", "p/backups/one/manifest.json", "p/backups/two/manifest.json", "p/backups/z"] {
        put(storage, at, "x").await;
    }
    put(storage, "p/backups/a", "four").await;
    let level = storage.list_level(Some(&key("p/backups"))).await.unwrap();
    assert_eq!(level.folders, ["one", "two"]);
    let beside = ["p/backups/a", "p/backups/z"].into_iter().zip([4, 1]);
    assert_eq!(level.objects, beside.map(|(at, size)| ObjectInfo { key: key(at), size }).collect::<Vec<_>>());
    assert!(!level.has_more);
    if stand.habits.deep_folders {
        assert_eq!(storage.list_folders(None).await.unwrap(), ["p"]);
    }
    assert_eq!(storage.list_folders(Some(&key("q"))).await.unwrap(), [""; 0]);
    let upload = storage.upload(&key("p/backups/unfinished/data/x")).await.unwrap();
    upload.part(0, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(storage.list_folders(Some(&key("p/backups"))).await.unwrap(), ["one", "two"]);
    upload.abort().await.unwrap();
}

async fn deleting_removes_one_object(stand: &Stand) {
    let storage = stand.storage();
    for at in ["a/b/c", "a/b/d", "e"] {
        put(storage, at, "x").await;
    }
    let beside_folders = ["a/b", "e/f"].into_iter().filter(|_| stand.habits.folders_are_no_keys);
    for at in ["a/b/c", "a/b/c", "never/was"].into_iter().chain(beside_folders) {
        storage.delete(&key(at)).await.unwrap();
    }
    assert_eq!(keys(storage, None).await, ["a/b/d", "e"]);
    storage.delete(&key("a/b/d")).await.unwrap();
    storage.delete(&key("e")).await.unwrap();
    if stand.habits.folders_are_no_keys {
        assert_eq!(storage.list_folders(None).await.unwrap(), [""; 0]);
    }
    put(storage, "a/b/c", "again").await;
    assert_eq!(read(storage, "a/b/c").await, "again");
}

async fn odd_keys_are_keys_like_others(stand: &Stand) {
    let storage = stand.storage();
    let mut odd = [
        "with space/and+plus",
        "100%/%2F%00",
        "é/日本/🙂.json",
        "a&b=c;d?e#f",
        "quote'\"<>",
        "~tilde:colon@at!star*(paren)",
        ".hidden/..two/...three",
    ];
    for at in odd {
        storage.put(&key(at), Bytes::from_static(at.as_bytes()), PutMode::CreateNew).await.unwrap();
    }
    for at in odd {
        assert_eq!(read(storage, at).await, at.as_bytes());
        assert_eq!(storage.stat(&key(at)).await.unwrap().unwrap().size, at.len() as u64);
    }
    odd.sort_unstable();
    assert_eq!(keys(storage, None).await, odd);
    assert_eq!(keys(storage, Some("100%")).await, ["100%/%2F%00"]);
    if stand.habits.deep_folders {
        assert_eq!(storage.list_folders(Some(&key("é"))).await.unwrap(), ["日本"]);
    }
    for at in odd {
        storage.delete(&key(at)).await.unwrap();
    }
    assert_eq!(keys(storage, None).await, [""; 0]);
}

async fn every_printable_character_may_stand_in_a_key(stand: &Stand) {
    let storage = stand.storage();
    // A backslash is no part of a key, and a slash parts it.
    let printable =
        (' '..='~').filter(|c| !"/\\".contains(*c)).filter(|c| stand.habits.odd_characters || c.is_alphanumeric());
    let mut names: Vec<String> = printable.map(|c| format!("printable/x{c}y/{c}z")).collect();
    for at in &names {
        put(storage, at, "x").await;
    }
    names.sort_unstable();
    let mut listed = keys(storage, Some("printable")).await;
    if !stand.habits.ordered {
        listed.sort_unstable();
    }
    assert_eq!(listed, names);
    for at in &names {
        assert_eq!(read(storage, at).await, "x", "{at}");
        storage.delete(&key(at)).await.unwrap();
    }
    assert_eq!(keys(storage, None).await, [""; 0]);
}

async fn a_range_is_read(stand: &Stand) {
    let storage = stand.storage();
    let body = noise(3_000_000);
    storage.put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
    for range in [0..1, 0..3_000_000, 2_999_999..3_000_000, 1_000_000..2_100_000, 7..7] {
        if range == (0..1) && !stand.habits.first_byte {
            let error = storage.get(&key("a"), Some(range)).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            continue;
        }
        let stream = storage.get(&key("a"), Some(range.clone())).await.unwrap();
        let got: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert_eq!(got.concat(), body[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [2_999_999..3_000_001, 3_000_000..3_000_001, 4_000_000..5_000_000] {
        let got = match storage.get(&key("a"), Some(range.clone())).await {
            Ok(stream) => stream.try_collect::<Vec<Bytes>>().await.map(drop),
            Err(e) => Err(e),
        };
        assert_eq!(got.unwrap_err().kind(), ErrorKind::Corrupt, "{range:?}");
    }
}

async fn parts_may_come_in_any_order_and_again(stand: &Stand) {
    let storage = stand.storage();
    let size = storage.part_size();
    let body = noise(2 * size + 1234);
    let part = |n: usize| body.slice(n * size..((n + 1) * size).min(body.len()));
    let upload: Arc<dyn mongokeep::storage::Upload> = Arc::from(storage.upload(&key("a/big")).await.unwrap());
    upload.part(2, part(2)).await.unwrap();
    let (one, two) = tokio::join!(upload.part(1, part(1)), upload.part(0, part(0)));
    one.unwrap();
    two.unwrap();
    upload.part(1, part(1)).await.unwrap();
    upload.part(2, part(2)).await.unwrap();
    upload.finish(3).await.unwrap();
    upload.finish(3).await.unwrap();
    assert_eq!(read(storage, "a/big").await, body);
    upload.abort().await.unwrap();
    assert_eq!(keys(storage, None).await, ["a/big"], "aborting what is finished removes nothing");
}

async fn an_upload_is_visible_when_it_is_finished(stand: &Stand) {
    let storage = stand.storage();
    put(storage, "a/old", "old").await;
    let old = storage.upload(&key("a/old")).await.unwrap();
    let new = storage.upload(&key("b/new")).await.unwrap();
    old.part(0, Bytes::from_static(b"replaced")).await.unwrap();
    new.part(0, Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(keys(storage, None).await, ["a/old"]);
    assert!(storage.stat(&key("b/new")).await.unwrap().is_none());
    assert_eq!(read(storage, "a/old").await, "old");
    old.finish(1).await.unwrap();
    new.finish(1).await.unwrap();
    assert_eq!(read(storage, "a/old").await, "replaced");
    assert_eq!(read(storage, "b/new").await, "new");
}

async fn an_aborted_upload_leaves_nothing(stand: &Stand) {
    let storage = stand.storage();
    let upload = storage.upload(&key("a/b/c")).await.unwrap();
    upload.part(0, Bytes::from_static(b"x")).await.unwrap();
    upload.abort().await.unwrap();
    upload.abort().await.unwrap();
    let mut writer = ObjectWriter::new(stand.shared(), key("a/b/d"));
    writer.write(noise(2 * storage.part_size() + 1)).await.unwrap();
    writer.abort().await.unwrap();
    if !stand.habits.forgets_what_is_cut_off {
        storage.delete(&key("a/b/d")).await.unwrap();
    }
    assert_eq!(keys(storage, None).await, [""; 0]);
    assert_eq!(storage.sweep(&key("a")).await.unwrap(), 0);
    stand.assert_untouched();
}

async fn sweeping_ends_unfinished_uploads_below_a_prefix(stand: &Stand) {
    let storage = stand.storage();
    put(storage, "a/b/done", "done").await;
    let mut uploads = Vec::new();
    for at in ["a/b/x", "a/b/y/z", "a/bc/x"] {
        let upload = storage.upload(&key(at)).await.unwrap();
        upload.part(0, Bytes::from_static(b"x")).await.unwrap();
        uploads.push(upload);
    }
    // Somebody may still be writing them.
    if stand.habits.dated_uploads {
        assert_eq!(storage.sweep_older(&key("a/b"), std::time::Duration::from_secs(3600)).await.unwrap(), 0);
    }
    assert_eq!(storage.sweep(&key("a/b")).await.unwrap(), if stand.habits.lists_uploads { 2 } else { 0 });
    assert_eq!(storage.sweep(&key("a/b")).await.unwrap(), 0);
    // The one of another prefix goes on; the swept ones cannot.
    uploads[2].finish(1).await.unwrap();
    if stand.habits.lists_uploads {
        assert!(uploads[0].finish(1).await.is_err());
    }
    assert_eq!(keys(storage, None).await, ["a/b/done", "a/bc/x"]);
}

async fn a_missing_part_is_not_overlooked(stand: &Stand) {
    let storage = stand.storage();
    let size = storage.part_size();
    let gap = storage.upload(&key("gap")).await.unwrap();
    gap.part(0, noise(size)).await.unwrap();
    gap.part(2, noise(1)).await.unwrap();
    assert!(gap.finish(3).await.is_err());
    let end = storage.upload(&key("end")).await.unwrap();
    end.part(0, noise(size)).await.unwrap();
    assert!(end.finish(2).await.is_err());
    assert_eq!(keys(storage, None).await, [""; 0]);
    gap.abort().await.unwrap();
    end.abort().await.unwrap();
}

async fn the_writer_cuts_any_sizes(stand: &Stand) {
    let storage = stand.storage();
    let size = storage.part_size();
    for (n, length) in [1, size - 1, size, size + 1, 3 * size + 77].into_iter().enumerate() {
        let body = noise(length);
        let at = key(&format!("written/{n}"));
        for step in [1 << 16, size, length] {
            let mut writer = ObjectWriter::new(stand.shared(), at.clone()).in_flight(3);
            for start in (0..length).step_by(step) {
                writer.write(body.slice(start..(start + step).min(length))).await.unwrap();
            }
            assert_eq!(writer.size(), length as u64);
            let written = writer.finish().await.unwrap();
            assert_eq!(written.size, length as u64);
            assert_eq!(written.blake3, blake3::hash(&body).to_hex().as_str());
            assert!(read(storage, at.as_str()).await == body, "{length} bytes in steps of {step}");
        }
    }
    assert_eq!(storage.sweep(&key("written")).await.unwrap(), 0);
    let error = read_all(storage, &key("written/1"), 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

async fn a_probe_leaves_nothing(stand: &Stand) {
    let seen = std::sync::Mutex::new(Vec::new());
    let steps = mongokeep::storage::test(stand.storage(), &|step| seen.lock().unwrap().push(step.clone())).await;
    assert!(steps.iter().all(|s| s.ok), "{steps:?}");
    let ids: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["list", "write", "read", "range", "find", "parts", "delete"]);
    assert_eq!(*seen.lock().unwrap(), steps);
    assert_eq!(keys(stand.storage(), None).await, [""; 0]);
    stand.assert_untouched();
}
