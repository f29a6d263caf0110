//! What goes wrong between here and an S3 server: what is repeated, what is told, and how soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::storage::TestStep;
use mongokeep::error::{Error, ErrorKind};
use mongokeep::storage::retry::{Backoff, Retrying};
use mongokeep::storage::s3::S3;
use mongokeep::storage::s3::{Checksums, S3Config, ServerSide};
use mongokeep::storage::{ObjectWriter, PutMode, Storage, read_all};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::objects::{key, noise};
use crate::support::proxy::{Fault, Proxy, refusal};
use crate::support::s3::{Conditions, Headers, S3Server, SECRET_KEY};
use crate::support::stopwatch::{Stopwatch, at_once};

async fn open(config: &S3Config) -> Arc<dyn Storage> {
    Arc::new(S3::new(config).await.unwrap().with_part_size(5 << 20).unwrap())
}

/// The server's storage through a proxy with these faults.
async fn through(server: &S3Server, faults: impl IntoIterator<Item = Fault>) -> (Proxy, Arc<dyn Storage>) {
    let proxy = Proxy::start(server.address, faults).await;
    let config = S3Config { endpoint: Some(format!("http://{}", proxy.address)), ..server.config() };
    let storage = open(&config).await;
    (proxy, storage)
}

/// Repeats soon, so that the tests are quick.
fn retrying(storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
    Arc::new(Retrying::new(storage, soon(), CancellationToken::new()))
}

fn soon() -> Backoff {
    Backoff { attempts: 6, first: Duration::from_millis(5), longest: Duration::from_millis(20), ..Backoff::default() }
}

async fn failed<T>(call: impl Future<Output = mongokeep::error::Result<T>>) -> Error {
    match call.await {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e,
    }
}

#[tokio::test]
async fn what_breaks_off_is_repeated() {
    let server = S3Server::start().await;
    let faults = [
        Fault::Refuse,
        Fault::Answer(refusal("503 Slow Down", "SlowDown", "")),
        Fault::CutRequest(100_000),
        Fault::LoseAnswer("PUT", ""),
    ];
    let (proxy, storage) = through(&server, faults).await;
    let body = noise(1_000_000);
    retrying(Arc::clone(&storage)).put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
    assert!(proxy.is_spent());
    assert_eq!(read_all(&*storage, &key("a"), 2_000_000).await.unwrap(), body);
}

#[tokio::test]
async fn without_the_decorator_nothing_is_repeated() {
    let server = S3Server::start().await;
    let (proxy, storage) = through(&server, [Fault::Answer(refusal("503 Slow Down", "SlowDown", ""))]).await;
    let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn what_will_not_pass_is_not_repeated() {
    let server = S3Server::start().await;
    let faults = [Fault::Answer(refusal("403 Forbidden", "AccessDenied", ""))];
    let (proxy, storage) = through(&server, faults).await;
    let error = failed(retrying(storage).put(&key("a"), noise(10), PutMode::Overwrite)).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.hint_text().unwrap().contains("s3:PutObject"), "{error:?}");
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn repeating_ends() {
    let server = S3Server::start().await;
    let (proxy, storage) = through(&server, vec![Fault::Refuse; 100]).await;
    let error = failed(retrying(storage).stat(&key("a"))).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(error.to_string().contains("tried 6 times"), "{error}");
    assert!((6..100).contains(&proxy.connections()));
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke() {
    let server = S3Server::start().await;
    let body = noise(20_000_000);
    open(&server.config()).await.put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
    for range in [None, Some(1_000_000..19_000_000)] {
        let cuts = vec![Fault::CutAnswer(3_000_000); 4];
        let (proxy, storage) = through(&server, cuts).await;
        let stream = retrying(storage).get(&key("a"), range.clone()).await.unwrap();
        let got: Vec<Bytes> = stream.try_collect().await.unwrap();
        let range = range.unwrap_or(0..20_000_000);
        assert!(got.concat() == body[range.start as usize..range.end as usize]);
        assert!(proxy.is_spent());
        // Read again from the start each time, it would be 12 MB more.
        assert!(proxy.bytes_from_server() < 21_000_000, "{}", proxy.bytes_from_server());
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error() {
    let server = S3Server::start().await;
    open(&server.config()).await.put(&key("a"), noise(1_000_000), PutMode::Overwrite).await.unwrap();
    let (_proxy, storage) = through(&server, [Fault::CutAnswer(400_000)]).await;
    let stream = storage.get(&key("a"), None).await.unwrap();
    let error = stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_recognised() {
    let server = S3Server::start().await;
    let (proxy, storage) = through(&server, [Fault::LoseAnswer("PUT", "/attempt")]).await;
    let storage = retrying(storage);
    storage.put(&key("attempt"), noise(100), PutMode::CreateNew).await.unwrap();
    assert!(proxy.is_spent());
    // Somebody else's is not ours.
    let (_proxy, other) = through(&server, [Fault::Refuse]).await;
    let error = failed(retrying(other).put(&key("attempt"), noise(101), PutMode::CreateNew)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

#[tokio::test]
async fn a_finish_whose_answer_was_lost_is_recognised() {
    let server = S3Server::start().await;
    let (proxy, storage) = through(&server, [Fault::LoseAnswer("POST", "uploadId=")]).await;
    let body = noise(11 << 20);
    let mut writer = ObjectWriter::new(retrying(Arc::clone(&storage)), key("big")).in_flight(1);
    writer.write(body.clone()).await.unwrap();
    writer.finish().await.unwrap();
    assert!(proxy.is_spent() && proxy.connections() > 1);
    assert!(read_all(&*storage, &key("big"), 12 << 20).await.unwrap() == body);
    assert_eq!(server.unfinished(), 0);
}

/// S3 begins its answer before it has put the parts together: what goes wrong then is told in the body of a 200.
#[tokio::test]
async fn a_finish_that_fails_in_an_answer_of_200_is_no_object() {
    let server = S3Server::start().await;
    let (proxy, storage) = through(&server, []).await;
    let body = noise(1 << 20);
    for (code, kind) in [("InternalError", ErrorKind::Transient), ("AccessDenied", ErrorKind::Denied)] {
        let upload = storage.upload(&key("big")).await.unwrap();
        upload.part(0, body.clone()).await.unwrap();
        proxy.cut([Fault::Answer(refusal("200 OK", code, ""))]);
        // A connection that was kept may turn out to be closed first.
        let error = loop {
            let error = failed(upload.finish(1)).await;
            if proxy.is_spent() {
                break error;
            }
        };
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(storage.stat(&key("big")).await.unwrap().is_none());
        upload.abort().await.unwrap();
    }
    // One that may pass is repeated.
    let upload = retrying(Arc::clone(&storage)).upload(&key("big")).await.unwrap();
    upload.part(0, body.clone()).await.unwrap();
    proxy.cut([Fault::Answer(refusal("200 OK", "InternalError", ""))]);
    upload.finish(1).await.unwrap();
    assert!(proxy.is_spent());
    assert!(read_all(&*storage, &key("big"), 2 << 20).await.unwrap() == body);
}

#[tokio::test]
async fn a_large_object_survives_a_bad_network() {
    let server = S3Server::start().await;
    let faults = [
        Fault::None,
        Fault::CutRequest(2_000_000),
        Fault::Answer(refusal("500 Internal Server Error", "InternalError", "")),
        Fault::Refuse,
        Fault::CutRequest(6_000_000),
    ];
    let (proxy, storage) = through(&server, faults).await;
    let body = noise(33 << 20);
    let mut writer = ObjectWriter::new(retrying(Arc::clone(&storage)), key("big")).in_flight(3);
    for chunk in body.chunks(700_001) {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let written = writer.finish().await.unwrap();
    assert!(proxy.is_spent());
    assert_eq!(written.blake3, blake3::hash(&body).to_hex().as_str());
    assert!(read_all(&*storage, &key("big"), 40 << 20).await.unwrap() == body);
}

#[tokio::test]
async fn a_writer_that_fails_leaves_nothing() {
    let server = S3Server::start().await;
    // The upload begins, its first part breaks off, and the abort gets through.
    let (_proxy, storage) = through(&server, [Fault::CutRequest(2_000_000)]).await;
    let mut writer = ObjectWriter::new(Arc::clone(&storage), key("big")).in_flight(1);
    let mut outcome = writer.write(noise(6 << 20)).await;
    if outcome.is_ok() {
        outcome = writer.finish().await.map(drop);
    } else {
        writer.abort().await.unwrap();
    }
    assert!(outcome.is_err());
    assert_eq!(server.unfinished(), 0);
    assert!(storage.stat(&key("big")).await.unwrap().is_none());
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = S3Server::start().await;
    let date = "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n";
    let cases = [
        ("503 Slow Down", "SlowDown", "", ErrorKind::Transient, "SlowDown"),
        ("500 Internal Server Error", "InternalError", "", ErrorKind::Transient, "InternalError"),
        ("400 Bad Request", "RequestTimeout", "", ErrorKind::Transient, "RequestTimeout"),
        ("429 Too Many Requests", "TooMany", "", ErrorKind::Transient, "TooMany"),
        ("403 Forbidden", "AccessDenied", "", ErrorKind::Denied, "told by a test"),
        ("403 Forbidden", "InvalidAccessKeyId", "", ErrorKind::Unauthenticated, "access key"),
        ("403 Forbidden", "SignatureDoesNotMatch", "", ErrorKind::Unauthenticated, "secret access key"),
        ("400 Bad Request", "ExpiredToken", "", ErrorKind::Unauthenticated, "session token"),
        ("403 Forbidden", "RequestTimeTooSkewed", date, ErrorKind::Failed, " d"),
        ("301 Moved Permanently", "PermanentRedirect", "", ErrorKind::Invalid, "--region"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "", ErrorKind::Invalid, "eu-west-1"),
        ("404 Not Found", "NoSuchBucket", "", ErrorKind::NotFound, "there is no bucket backups"),
        ("507 Insufficient Storage", "XMinioStorageFull", "", ErrorKind::StorageFull, "delete old backups"),
        ("400 Bad Request", "SomethingNew", "", ErrorKind::Failed, "SomethingNew: told by a test"),
    ];
    for (status, code, headers, kind, contains) in cases {
        let (_proxy, storage) = through(&server, [Fault::Answer(refusal(status, code, headers))]).await;
        let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
        let told = format!("{error} {}", error.hint_text().unwrap_or_default());
        assert!(told.contains(contains), "{code}: {told}");
        assert!(told.contains("s3://backups/a"), "{code}: {told}");
        if code == "RequestTimeTooSkewed" {
            assert!(told.contains("clock") && told.contains("differ by"), "{told}");
        }
    }
}

/// An answer of something that is not S3.
fn page(status: &str) -> String {
    let page = "<html><body>nginx</body></html>";
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len())
}

fn bare(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// What stands between here and a server knows only a status. Most of what it says passes; a few do not.
#[tokio::test]
async fn answers_without_a_code_are_judged_by_what_they_mean() {
    let server = S3Server::start().await;
    let passing = [
        "400 Bad Request",
        "403 Forbidden",
        "404 Not Found",
        "408 Request Timeout",
        "409 Conflict",
        "421 Misdirected Request",
        "425 Too Early",
        "429 Too Many Requests",
        "499 Client Closed Request",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
        "520 Unknown",
    ];
    let body = noise(10);
    for status in passing {
        for answer in [page(status), bare(status)] {
            let (proxy, storage) = through(&server, [Fault::Answer(answer.clone()), Fault::Answer(answer)]).await;
            let error = failed(storage.put(&key("a"), body.clone(), PutMode::Overwrite)).await;
            assert_eq!(error.kind(), ErrorKind::Transient, "{status}: {error:?}");
            assert!(error.to_string().contains(&status[..3]) && error.hint_text().is_some(), "{status}: {error:?}");
            retrying(storage).put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
            assert!(proxy.is_spent(), "{status}");
        }
    }
    for (status, kind) in [
        ("401 Unauthorized", ErrorKind::Unauthenticated),
        ("407 Proxy Authentication Required", ErrorKind::Unauthenticated),
        ("405 Method Not Allowed", ErrorKind::Unsupported),
        ("413 Content Too Large", ErrorKind::Failed),
        ("507 Insufficient Storage", ErrorKind::StorageFull),
    ] {
        for answer in [page(status), bare(status)] {
            let (proxy, storage) = through(&server, [Fault::Answer(answer)]).await;
            let error = failed(retrying(storage).put(&key("a"), body.clone(), PutMode::Overwrite)).await;
            assert_eq!(error.kind(), kind, "{status}: {error:?}");
            assert!(error.hint_text().is_some(), "{status}: {error:?}");
            assert_eq!(proxy.connections(), 1, "{status}");
        }
    }
}

/// The bucket knows its region, and a person is told.
#[tokio::test]
async fn a_wrong_region_is_told_with_the_right_one() {
    let server = S3Server::start().await;
    let header = "x-amz-bucket-region: ap-south-1\r\n";
    for (status, code) in
        [("301 Moved Permanently", "PermanentRedirect"), ("400 Bad Request", "AuthorizationHeaderMalformed")]
    {
        let (_proxy, storage) = through(&server, [Fault::Answer(refusal(status, code, header))]).await;
        let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.hint_text().unwrap().contains("give --region ap-south-1, not eu-west-1"), "{error:?}");
    }
}

/// Small and large objects are stored as a person has asked for.
#[tokio::test]
async fn class_and_encryption_are_asked_for_with_each_object() {
    let server = S3Server::start().await;
    let config = S3Config {
        storage_class: Some("STANDARD_IA".into()),
        sse: ServerSide::Kms,
        sse_kms_key_id: Some("key-of-the-test".into()),
        ..server.config()
    };
    let storage = open(&config).await;
    storage.put(&key("small"), noise(10), PutMode::CreateNew).await.unwrap();
    let mut writer = ObjectWriter::new(Arc::clone(&storage), key("large"));
    writer.write(noise(6 << 20)).await.unwrap();
    writer.finish().await.unwrap();
    let asked = ["small", "large"].map(|at| format!("{at} STANDARD_IA aws:kms key-of-the-test"));
    assert_eq!(server.asked(), asked);
    open(&server.config()).await.put(&key("plain"), noise(10), PutMode::Overwrite).await.unwrap();
    assert_eq!(server.asked()[2], "plain - - -");
}

/// A proxy without its server, or a bucket that is gone, is no missing object: a manifest that is there would be.
#[tokio::test]
async fn only_the_server_itself_says_that_an_object_is_missing() {
    let server = S3Server::start().await;
    open(&server.config()).await.put(&key("manifest"), noise(10), PutMode::Overwrite).await.unwrap();
    let not_found = || Fault::Answer(page("404 Not Found"));
    let (_proxy, storage) = through(&server, [not_found(), not_found(), not_found()]).await;
    let error = failed(storage.stat(&key("manifest"))).await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    assert!(storage.stat(&key("manifest")).await.unwrap().is_some());
    for faults in 1..=2 {
        let (_proxy, storage) = through(&server, (0..faults).map(|_| not_found())).await;
        assert!(storage.stat(&key("manifest")).await.unwrap().is_some(), "it is asked again, and is there");
    }
    let gone = open(&S3Config { bucket: "nowhere".into(), ..server.config() }).await;
    let error = failed(gone.stat(&key("manifest"))).await;
    assert!(error.to_string().contains("there is no bucket nowhere"), "{error:?}");
    assert!(storage.stat(&key("never")).await.unwrap().is_none());
}

/// A connection that is reset in the middle of an answer, whatever the answer is.
#[tokio::test]
async fn an_answer_that_breaks_off_is_repeated() {
    let server = S3Server::start().await;
    let storage = open(&server.config()).await;
    for n in 0..20 {
        storage.put(&key(&format!("many/{n}")), noise(10), PutMode::Overwrite).await.unwrap();
    }
    for cut in [1, 40, 400, 900] {
        let (proxy, storage) = through(&server, [Fault::CutAnswer(cut), Fault::CutAnswer(cut)]).await;
        let error = match storage.list(None).await {
            Ok(stream) => failed(stream.try_collect::<Vec<_>>()).await,
            Err(e) => e,
        };
        assert!(error.is_retryable() && error.hint_text().is_some(), "{cut}: {error:?}");
        let listed: Vec<_> = retrying(storage).list(None).await.unwrap().try_collect().await.unwrap();
        assert_eq!(listed.len(), 20);
        assert!(proxy.is_spent());
    }
}

/// Every refusal tells what to do about it, whatever it is called.
#[tokio::test]
async fn every_failure_of_a_storage_has_a_hint() {
    let server = S3Server::start().await;
    let codes = [
        "AccessDenied",
        "BadDigest",
        "EntityTooLarge",
        "InternalError",
        "InvalidArgument",
        "InvalidBucketState",
        "InvalidDigest",
        "InvalidObjectState",
        "InvalidPart",
        "InvalidRequest",
        "KeyTooLongError",
        "MalformedXML",
        "MethodNotAllowed",
        "MissingContentLength",
        "NoSuchKey",
        "NoSuchUpload",
        "NotImplemented",
        "OperationAborted",
        "PreconditionFailed",
        "QuotaExceeded",
        "SlowDown",
        "SomethingNew",
        "",
    ];
    for status in ["400 Bad Request", "404 Not Found", "409 Conflict", "412 Precondition Failed", "418 I'm a teapot"] {
        for code in codes {
            let (_proxy, storage) = through(&server, [Fault::Answer(refusal(status, code, ""))]).await;
            let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
            assert!(error.hint_text().is_some_and(|h| !h.is_empty()), "{status} {code}: {error:?}");
        }
    }
    // What a backend says nothing to is told by its opener: here of a folder, whose errors are the system's.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let path = folder.path().join("file").to_str().unwrap().to_owned();
    let storage =
        mongokeep::storage::open(&mongokeep::domain::storage::StorageConfig::of("filesystem", [("path", &path)]))
            .await
            .unwrap();
    let a = key("a");
    for error in [
        failed(storage.put(&a, noise(1), PutMode::Overwrite)).await,
        failed(storage.get(&a, None)).await,
        failed(storage.stat(&a)).await,
        failed(storage.list(None)).await,
        failed(storage.sweep(&a)).await,
        failed(storage.free_space()).await,
    ] {
        assert!(error.hint_text().is_some_and(|h| !h.is_empty()), "{error:?}");
    }
}

#[tokio::test]
async fn a_conflict_without_a_body_and_what_is_in_the_way_are_told_apart() {
    let server = S3Server::start().await;
    for (code, kind) in [
        ("ConditionalRequestConflict", ErrorKind::Transient),
        ("OperationAborted", ErrorKind::Transient),
        ("InvalidBucketState", ErrorKind::Failed),
    ] {
        let (_proxy, storage) = through(&server, [Fault::Answer(refusal("409 Conflict", code, ""))]).await;
        let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
    }
}

/// In a versioned bucket a deletion leaves a marker, which some servers take for an object.
#[tokio::test]
async fn a_marker_of_a_deletion_does_not_take_a_name() {
    let server = S3Server::with(Conditions::MarkersCount, false).await;
    let storage = open(&server.config()).await;
    storage.put(&key("attempt"), noise(10), PutMode::CreateNew).await.unwrap();
    storage.delete(&key("attempt")).await.unwrap();
    storage.put(&key("attempt"), noise(11), PutMode::CreateNew).await.unwrap();
    let error = failed(storage.put(&key("attempt"), noise(12), PutMode::CreateNew)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

/// Servers that refuse the headers of checksums, or want others, are met by a setting, which the failure points to.
#[tokio::test]
async fn checksums_are_what_the_server_takes() {
    let cases =
        [(Headers::Refused, Checksums::None, "not implemented"), (Headers::Md5, Checksums::Md5, "not implemented")];
    for (headers, works, said) in cases {
        let server = S3Server::answering(Conditions::Kept, headers, false).await;
        for checksums in [Checksums::Auto, Checksums::Crc32, Checksums::Md5, Checksums::None] {
            let config = S3Config { checksums, ..server.config() };
            let storage = S3::new(&config).await.unwrap();
            let steps = mongokeep::storage::test(&storage, &|_| {}).await;
            // Content-MD5 is older than all of these headers, so that no server refuses it.
            let taken = checksums == works || checksums == Checksums::Md5;
            assert_eq!(steps.iter().all(|s| s.ok), taken, "{headers:?} {checksums:?}: {steps:?}");
            if !taken && checksums != Checksums::None {
                let detail = &steps.last().unwrap().detail;
                assert!(detail.contains(said) && detail.contains("--checksums"), "{detail}");
            }
        }
        assert_eq!(server.unfinished(), 0);
    }
}

#[tokio::test]
async fn another_server_than_s3_is_told() {
    let server = S3Server::start().await;
    let page = "<html>Welcome to the console</html>";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
    let (_proxy, storage) = through(&server, [Fault::Answer(answer)]).await;
    let error = failed(storage.list(None)).await;
    assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
    assert!(error.hint_text().unwrap().contains("endpoint"), "{error:?}");
}

/// Runs the test of a storage: the failed step, and how long everything took.
async fn failed_step(config: &S3Config) -> (TestStep, Duration) {
    let storage = S3::new(config).await.unwrap();
    let began = Stopwatch::start();
    let steps = mongokeep::storage::test(&storage, &|_| {}).await;
    let took = began.elapsed();
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(!steps[0].ok && steps[0].id == "list", "{steps:?}");
    assert!(!steps[0].detail.contains(SECRET_KEY) && !steps[0].detail.contains("another-secret"), "{steps:?}");
    (steps[0].clone(), took)
}

#[tokio::test]
async fn wrong_keys_are_told() {
    let server = S3Server::start().await;
    let secret = Some(Secret::new("another-secret"));
    for config in [
        S3Config { secret_access_key: secret, ..server.config() },
        S3Config { access_key_id: Some("AKIANOBODY".into()), ..server.config() },
    ] {
        let (step, _) = failed_step(&config).await;
        assert!(step.detail.contains("check the access key id"), "{step:?}");
        let error = failed(S3::new(&config).await.unwrap().stat(&key("a"))).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_told() {
    let server = S3Server::start().await;
    let config = S3Config { bucket: "nowhere".into(), ..server.config() };
    let (step, _) = failed_step(&config).await;
    assert!(step.detail.contains("there is no bucket nowhere"), "{step:?}");
    let storage = S3::new(&config).await.unwrap();
    let a = key("a");
    for error in [
        failed(storage.put(&a, noise(1), PutMode::Overwrite)).await,
        failed(storage.upload(&a)).await,
        failed(storage.get(&a, None)).await,
        failed(storage.list(None)).await,
        failed(storage.list_folders(None)).await,
        failed(storage.sweep(&a)).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains("there is no bucket nowhere"), "{error:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_told_within_ten_seconds() {
    let server = S3Server::start().await;
    // A port that was free a moment ago.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stalling = Proxy::start(server.address, vec![Fault::Stall; 100]).await;
    let refused = S3Config { endpoint: Some(format!("http://{closed}")), ..server.config() };
    let stalled = S3Config { endpoint: Some(format!("http://{}", stalling.address)), ..server.config() };
    let nameless = S3Config { endpoint: Some("http://storage.invalid:9000".into()), ..server.config() };
    let handshake = S3Config { endpoint: Some(format!("https://{}", stalling.address)), ..server.config() };
    for (config, says) in
        [(refused, "refused"), (stalled, "no answer"), (nameless, "storage.invalid"), (handshake, "answer")]
    {
        let (step, took) = failed_step(&config).await;
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(step.detail.contains(says), "{step:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let server = S3Server::with(support::s3::Conditions::Kept, true).await;
    let trusting = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusting.path(), server.certificate.as_deref().unwrap()).unwrap();
    let ca_file = Some(trusting.path().to_str().unwrap().to_owned());
    let another = S3Server::with(support::s3::Conditions::Kept, true).await;
    let distrusting = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(distrusting.path(), another.certificate.as_deref().unwrap()).unwrap();

    let distrusted = S3Config { ca_file: Some(distrusting.path().to_str().unwrap().into()), ..server.config() };
    let (step, _) = failed_step(&distrusted).await;
    assert!(step.detail.contains("not trusted") && step.detail.contains("--ca-file"), "{step:?}");
    let error = failed(S3::new(&distrusted).await.unwrap().list(None)).await;
    assert_eq!(error.kind(), ErrorKind::Failed, "a certificate does not get better by waiting: {error:?}");

    for config in
        [S3Config { ca_file, ..server.config() }, S3Config { insecure_skip_tls_verify: true, ..server.config() }]
    {
        let storage = S3::new(&config).await.unwrap();
        let steps = mongokeep::storage::test(&storage, &|_| {}).await;
        let names: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(names, ["list", "write", "read", "range", "find", "parts", "delete"]);
        assert!(steps.iter().all(|s| s.ok), "{steps:?}");
    }
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_told() {
    let server = S3Server::start().await;
    for insecure_skip_tls_verify in [false, true] {
        let endpoint = Some(format!("https://{}", server.address));
        let (step, _) = failed_step(&S3Config { endpoint, insecure_skip_tls_verify, ..server.config() }).await;
        assert!(step.detail.contains("http://"), "{step:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_names_its_field() {
    let server = S3Server::start().await;
    let missing = Some("/nonexistent/ca.pem".into());
    let no_pem = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned());
    let cases = [
        (S3Config { bucket: String::new(), ..server.config() }, "bucket"),
        (S3Config { endpoint: Some("127.0.0.1:9000".into()), ..server.config() }, "endpoint"),
        (S3Config { endpoint: Some("http://me:secret@host".into()), ..server.config() }, "endpoint"),
        (S3Config { prefix: "a/../b".into(), ..server.config() }, "prefix"),
        (S3Config { secret_access_key: None, ..server.config() }, "secret-access-key"),
        (S3Config { access_key_id: None, ..server.config() }, "access-key-id"),
        (S3Config { ca_file: missing, ..server.config() }, "ca-file"),
        (S3Config { ca_file: no_pem, ..server.config() }, "ca-file"),
    ];
    for (config, field) in cases {
        let error = failed(S3::new(&config)).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.to_string().starts_with(&format!("{field}:")), "{error}");
        assert!(!error.to_string().contains("secret@"), "{error}");
    }
}

#[tokio::test]
async fn a_cancel_ends_a_call_and_clean_up_still_works() {
    let server = S3Server::start().await;
    open(&server.config()).await.put(&key("left"), noise(10), PutMode::Overwrite).await.unwrap();
    let (proxy, storage) = through(&server, [Fault::Stall]).await;
    let cancel = CancellationToken::new();
    let storage = Arc::new(Retrying::new(storage, soon(), cancel.clone()));
    let call = tokio::spawn({
        let storage = Arc::clone(&storage);
        async move { storage.put(&key("never"), noise(10), PutMode::Overwrite).await }
    });
    while proxy.connections() == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    cancel.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert!(began.elapsed() < at_once());
    storage.delete(&key("left")).await.unwrap();
    assert!(storage.stat(&key("left")).await.unwrap().is_none());
    assert!(storage.stat(&key("never")).await.unwrap().is_none());
}

/// The test below starts this one in a process of its own, whose environment it can choose.
const CHILD: &str = "MONGOKEEP_TEST_CHILD_ENDPOINT";
const PROFILE: &str = "MONGOKEEP_TEST_CHILD_PROFILE";

#[tokio::test]
async fn keys_come_from_the_environment_when_none_are_given() {
    if let Ok(endpoint) = std::env::var(CHILD) {
        let config = S3Config {
            bucket: "backups".into(),
            endpoint: Some(endpoint),
            path_style: true,
            profile: std::env::var(PROFILE).ok(),
            ..S3Config::default()
        };
        let storage = match S3::new(&config).await {
            Ok(storage) => storage,
            Err(e) => return println!("open false {e}"),
        };
        let steps = mongokeep::storage::test(&storage, &|_| {}).await;
        for step in &steps {
            println!("{} {} {}", step.id, step.ok, step.detail);
        }
        return;
    }
    let server = S3Server::start().await;
    let run_at = async |server: &S3Server, keys: &[(&str, &str)]| {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::faults::keys_come_from_the_environment_when_none_are_given", "--nocapture"])
            .env_clear()
            .env(CHILD, format!("http://{}", server.address))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/nonexistent")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
            .envs(keys.iter().copied())
            .output()
            .await
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let run = async |keys: &[(&str, &str)]| run_at(&server, keys).await;
    let told = run(&[("AWS_ACCESS_KEY_ID", support::s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]).await;
    assert!(told.contains("delete true"), "{told}");
    let told = run(&[]).await;
    assert!(told.contains("list false") && told.contains("AWS_ACCESS_KEY_ID"), "{told}");
    // A profile is looked for in the files, before the keys of the environment.
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys = format!("aws_access_key_id = {}\naws_secret_access_key = {SECRET_KEY}\n", support::s3::ACCESS_KEY);
    std::fs::write(file.path(), format!("[backups]\n{keys}")).unwrap();
    let files = ("AWS_SHARED_CREDENTIALS_FILE", file.path().to_str().unwrap());
    let wrong = [("AWS_ACCESS_KEY_ID", "AKIANOBODY"), ("AWS_SECRET_ACCESS_KEY", "another-secret")];
    let told = run(&[&[files, (PROFILE, "backups")][..], &wrong[..]].concat()).await;
    assert!(told.contains("delete true"), "{told}");
    let told = run(&[files, (PROFILE, "nobody")]).await;
    assert!(told.contains("list false"), "{told}");

    // The variables that all tools of AWS know are heard too, and a word that is none of theirs is no default.
    let keys = [("AWS_ACCESS_KEY_ID", support::s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let strict = S3Server::answering(Conditions::Kept, Headers::Refused, false).await;
    let both =
        [("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"), ("AWS_RESPONSE_CHECKSUM_VALIDATION", "WHEN_REQUIRED")];
    let told = run_at(&strict, &keys).await;
    assert!(told.contains("write false") && told.contains("--checksums"), "{told}");
    let told = run_at(&strict, &[&keys[..], &both[..]].concat()).await;
    assert!(told.contains("parts true") && told.contains("delete true"), "{told}");
    let told = run_at(&strict, &[&keys[..], &[("AWS_REQUEST_CHECKSUM_CALCULATION", "never")]].concat()).await;
    assert!(told.contains("open false AWS_REQUEST_CHECKSUM_CALCULATION"), "{told}");
}
