//! How objects go over a line: how much of them at once, what is sent again when it breaks, and no faster than a person allows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use mongokeep::domain::bandwidth::BandwidthLimit;
use mongokeep::domain::clock;
use mongokeep::storage::in_flight::MOST_PARTS;
use mongokeep::storage::retry::{Backoff, Retrying};
use mongokeep::storage::s3::{S3, S3Config};
use mongokeep::storage::throttle::{Limiter, Throttled};
use mongokeep::storage::{ObjectWriter, Opener, PutMode, Storage, Written, read_ahead};
use tokio_util::sync::CancellationToken;

use crate::support::line::Line;
use crate::support::objects::{key, noise};
use crate::support::program::{Home, fill, replica_set, until};
use crate::support::proxy::{Fault, Proxy};
use crate::support::s3::{BUCKET, S3Server, SECRET_KEY};

const PART: usize = 5 << 20;

/// As a job opens it, through whatever stands at `address`.
async fn opened(server: &S3Server, address: std::net::SocketAddr, parts: usize) -> Arc<dyn Storage> {
    let config = S3Config { endpoint: Some(format!("http://{address}")), ..server.config() };
    let cancel = CancellationToken::new();
    let config = (&config).into();
    let opener = Opener::new(&config, Backoff::within(Duration::from_secs(60)), cancel.clone());
    opener.parallel_parts(parts).open(&cancel).await.unwrap()
}

async fn write(storage: &Arc<dyn Storage>, at: &str, body: &Bytes) -> Written {
    let mut writer = ObjectWriter::new(Arc::clone(storage), key(at));
    for chunk in body.chunks(1 << 20) {
        writer.write(body.slice_ref(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

/// On a line of a second nothing but more parts at once sends more. One number for all lines is wrong for one of these two.
#[tokio::test(flavor = "multi_thread")]
async fn parts_on_their_way_follow_the_line() {
    let server = S3Server::start().await;
    let (long, slow) = tokio::join!(
        Line::start(server.address, 1e9, Duration::from_secs(1)),
        Line::start(server.address, 5e6, Duration::from_millis(2)),
    );
    let body = noise(36 * PART);
    let over = async |line: &Line, at: &str, body: Bytes| {
        let storage = opened(&server, line.address, MOST_PARTS).await;
        let began = Instant::now();
        let written = write(&storage, at, &body).await;
        println!("{at}: {:.2} s for {} bytes", began.elapsed().as_secs_f64(), line.sent());
        assert_eq!(written.blake3, blake3::hash(&body).to_hex().as_str());
        let uploads = storage.in_flight().unwrap().uploads.clone().unwrap();
        (uploads.limit(), uploads.most_taken())
    };
    let slowly = over(&slow, "slow", body.slice(..10 * PART));
    let ((many, _), (few, _)) = tokio::join!(over(&long, "long", body.clone()), slowly);
    assert!((9..=MOST_PARTS).contains(&many), "over the long line: {many}");
    // More are tried, and given up again.
    assert!(few <= 6, "over the slow line: {few}");
    let storage = opened(&server, long.address, 3).await;
    write(&storage, "few", &body.slice(..8 * PART)).await;
    let uploads = storage.in_flight().unwrap().uploads.clone().unwrap();
    assert_eq!(uploads.most_taken(), 3, "as a person allows");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_fetched_ahead_over_a_long_line() {
    let server = S3Server::start().await;
    let body = noise(36 * PART + 1_000);
    write(&opened(&server, server.address, MOST_PARTS).await, "big", &body).await;
    let line = Line::start(server.address, 1e9, Duration::from_secs(1)).await;
    let storage = opened(&server, line.address, MOST_PARTS).await;
    let size = body.len() as u64;
    for range in [None, Some(7..size - 7)] {
        let before = line.received();
        let stream = read_ahead(Arc::clone(&storage), &key("big"), range.clone(), size).await.unwrap();
        let got: Vec<Bytes> = stream.try_collect().await.unwrap();
        let range = range.unwrap_or(0..size);
        assert!(got.concat() == body[range.start as usize..range.end as usize]);
        let received = line.received() - before;
        assert!(received < size + size / 50, "each byte is fetched once: {received}");
    }
    let downloads = &storage.in_flight().unwrap().downloads;
    // More than a line starts with; how many a busy machine finds worth it differs.
    assert!((5..=MOST_PARTS).contains(&downloads.limit()), "{}", downloads.limit());
}

/// Whoever reads slowly keeps no more in memory than there are places, and whoever reads many objects in turn waits for none
/// of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_ahead_is_bounded_and_holds_nobody_up() {
    let server = S3Server::start().await;
    let body = noise(12 * PART);
    let storage = opened(&server, server.address, MOST_PARTS).await;
    write(&storage, "big", &body).await;
    let line = Line::start(server.address, 1e9, Duration::ZERO).await;
    let storage = opened(&server, line.address, 2).await;
    let read = async || read_ahead(Arc::clone(&storage), &key("big"), None, body.len() as u64).await.unwrap();
    let mut slow = read().await;
    let mut first = slow.next().await.unwrap().unwrap().len();
    // The range that passes, and the two that there are places for.
    let ahead = 3 * PART as u64;
    let began = Instant::now();
    while line.received() < ahead && began.elapsed().as_secs() < 60 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((ahead..ahead + ahead / 10).contains(&line.received()), "{}", line.received());

    // It holds both places, and five others are read to their end, chunk by chunk in turn.
    let mut others = futures_util::future::join_all((0..5).map(|_| read())).await;
    let mut got = vec![0; others.len()];
    while got.iter().any(|got| *got < body.len()) {
        for (stream, got) in others.iter_mut().zip(&mut got) {
            if *got < body.len() {
                *got += stream.next().await.unwrap().unwrap().len();
            }
        }
    }
    while let Some(chunk) = slow.next().await {
        first += chunk.unwrap().len();
    }
    assert_eq!(first, body.len());
}

/// An object that has changed in the meantime is read as it is: whoever reads it finds out.
#[tokio::test]
async fn an_object_of_another_size_is_read_as_it_is() {
    let server = S3Server::start().await;
    let storage = opened(&server, server.address, MOST_PARTS).await;
    for length in [0, 100, PART, 2 * PART - 1, 3 * PART + 1] {
        let body = noise(length);
        write(&storage, "big", &body).await;
        let stream = read_ahead(Arc::clone(&storage), &key("big"), None, 2 * PART as u64).await.unwrap();
        let got: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert!(got.concat() == body, "{length}");
    }
    let missing = read_ahead(Arc::clone(&storage), &key("never"), None, 4 * PART as u64).await;
    assert_eq!(missing.err().unwrap().kind(), mongokeep::error::ErrorKind::NotFound);
}

/// A connection that is reset in the middle of a part costs that part and nothing else.
#[tokio::test]
async fn a_reset_repeats_one_part() {
    let server = S3Server::start().await;
    // The upload begins and its first part goes through; the second breaks off half way.
    let proxy = Proxy::start(server.address, [Fault::CutRequest(PART + PART / 2)]).await;
    let storage = opened(&server, proxy.address, 1).await;
    let body = noise(6 * PART);
    write(&storage, "big", &body).await;
    let (sent, whole) = (proxy.bytes_from_client(), 6 * PART as u64);
    assert!(proxy.is_spent() && proxy.connections() == 2, "{} connections", proxy.connections());
    assert!((whole + PART as u64 / 3..whole + PART as u64 * 2 / 3).contains(&sent), "{sent} of {whole}");
    let stored = server.objects().join("big").metadata().unwrap().len();
    assert_eq!((stored, server.unfinished()), (whole, 0));
}

/// Half a minute without a line, in the middle of a backup: the job waits, and goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_gone_for_half_a_minute_fails_no_job() {
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let server = S3Server::start().await;
    let proxy = Proxy::start(server.address, []).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_s3("cloud", proxy.address, BUCKET, SECRET_KEY);
    // The backup is still at it when the line goes.
    home.ok(&["settings", "set", "backup.bandwidth_limit", "60000"]);
    let id =
        home.ok(&["backup", "create", "--service", "src", "--storage", "cloud", "--name", "one"])["id"].to_string();
    let manifest = server.objects().join("src/backups/one/manifest.json");
    until("the backup writes", || manifest.with_file_name("attempt.json").exists());
    proxy.cut(std::iter::repeat_n(Fault::Refuse, 100_000));
    let gone = Instant::now();
    let tries = proxy.connections();
    // What the limit holds back when the line goes tries nothing before its turn.
    until("it is tried again, and half a minute is over", || {
        assert!(!manifest.exists(), "the backup ended before the line went");
        proxy.connections() > tries + 3 && gone.elapsed() > Duration::from_secs(30)
    });
    proxy.heal();
    until("the backup is there", || {
        let job = home.ok(&["job", "show", &id]);
        assert_eq!(job["attempt"], 1, "{job}");
        job["state"] == "succeeded"
    });
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
}

/// A backup that would take hours goes as soon as the limit is taken away.
#[tokio::test(flavor = "multi_thread")]
async fn another_limit_counts_for_a_job_that_runs() {
    let set = replica_set().await;
    fill(&set, "shop", 1_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("near");
    home.ok(&["settings", "set", "backup.bandwidth_limit", "100"]);
    let id = home.ok(&["backup", "create", "--service", "src", "--storage", "near", "--name", "one"])["id"].to_string();
    let job = || home.ok(&["job", "show", &id]);
    until("it waits for its turn", || job()["progress"]["bytes_done"].as_u64() > Some(0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(job()["state"], "running");
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    until("it is there", || job()["state"] == "succeeded");
    assert_eq!(job()["attempt"], 1);
}

/// What is sent again is sent again over the line.
#[tokio::test]
async fn repeated_bytes_are_paid_for_again() {
    let server = S3Server::start().await;
    // The body is read to its end, and refused.
    let refused = crate::support::proxy::refusal("503 Slow Down", "SlowDown", "");
    let proxy = Proxy::start(server.address, vec![Fault::Answer(refused); 3]).await;
    let config = S3Config { endpoint: Some(format!("http://{}", proxy.address)), ..server.config() };
    let limiter = Limiter::new(BandwidthLimit::parse("500kB", chrono_tz::Tz::UTC).unwrap());
    let throttled = Arc::new(Throttled::new(Arc::new(S3::new(&config).await.unwrap()), limiter));
    let soon = Backoff { first: Duration::from_millis(1), ..Backoff::default() };
    let storage = Retrying::new(throttled, soon, CancellationToken::new());
    let body = noise(150_000);
    let began = Instant::now();
    storage.put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
    // The first of four goes at once.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(proxy.is_spent());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_keeps_to_the_limit() {
    let server = S3Server::start().await;
    let body = noise(4 * PART);
    write(&opened(&server, server.address, MOST_PARTS).await, "big", &body).await;
    let cancel = CancellationToken::new();
    let limiter = Limiter::new(BandwidthLimit::parse("10MB", chrono_tz::Tz::UTC).unwrap());
    let config = (&server.config()).into();
    let opener = Opener::new(&config, Backoff::default(), cancel.clone()).limited(limiter);
    let storage = opener.open(&cancel).await.unwrap();
    let began = Instant::now();
    let stream = read_ahead(storage, &key("big"), None, body.len() as u64).await.unwrap();
    let got: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert!(got.concat() == body);
    // 21 MB, of which the last chunks are let through before they are paid for.
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
}

/// The test below starts this one in a process of its own, whose clock it can set.
const CHILD: &str = "MONGOKEEP_TEST_CLOCK";

/// A minute before six in the evening hardly anything goes; a minute after it, everything, without another part being begun.
#[tokio::test(flavor = "multi_thread")]
async fn another_hour_counts_for_what_is_on_its_way() {
    if std::env::var_os(CHILD).is_none() {
        let name = "storage::transfer::another_hour_counts_for_what_is_on_its_way";
        let mut run = std::process::Command::new(std::env::current_exe().unwrap());
        let output = run.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let at = |text: &str| clock::fix(text.parse().unwrap());
    at("2026-11-20T17:59:00Z");
    let server = S3Server::start().await;
    let body = noise(4 * PART);
    write(&opened(&server, server.address, MOST_PARTS).await, "big", &body).await;
    let limiter = Limiter::new(BandwidthLimit::parse("08:00-18:00 1kB", chrono_tz::Tz::UTC).unwrap());
    let config = (&server.config()).into();
    let cancel = CancellationToken::new();
    let opener = Opener::new(&config, Backoff::default(), cancel.clone()).limited(limiter);
    let storage = opener.open(&cancel).await.unwrap();
    let up = tokio::spawn({
        let (storage, body) = (Arc::clone(&storage), body.clone());
        async move { write(&storage, "up", &body).await }
    });
    let down = tokio::spawn(async move {
        let stream = read_ahead(storage, &key("big"), None, 4 * PART as u64).await.unwrap();
        stream.try_fold(0, async |sum, chunk| Ok(sum + chunk.len())).await.unwrap()
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!up.is_finished() && !down.is_finished(), "by the limit of the day it takes hours");
    at("2026-11-20T18:00:00Z");
    let both = async { (up.await.unwrap().size, down.await.unwrap()) };
    let (sent, read) = tokio::time::timeout(Duration::from_secs(180), both).await.unwrap();
    assert_eq!((sent, read), (4 * PART as u64, 4 * PART));
}
