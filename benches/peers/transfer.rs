//! Objects and whole backups over a simulated line, beside what the line alone needs for the same bytes.
//!
//! Server, line and backup share this machine's processors. What the same takes without a line says whether it was the line
//! that was waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use mongokeep::storage::in_flight::MOST_PARTS;
use mongokeep::storage::retry::Backoff;
use mongokeep::storage::s3::S3Config;
use mongokeep::storage::{Key, ObjectWriter, Opener, Storage, read_ahead};
use tokio_util::sync::CancellationToken;

use crate::line::Line;
use crate::measure::{self, Sample};
use crate::stage::Stage;
use crate::{Peers, Scale, data, s3, table};

const GIGABIT: f64 = 125e6;
const GOAL: &str = "1.20";
/// Bytes of the one object.
const OBJECT: f64 = 1e9;

struct Over {
    name: &'static str,
    bytes_per_second: f64,
    round_trip: Duration,
}

const LINES: [Over; 3] = [
    Over { name: "1 Gbit/s, 50 ms", bytes_per_second: GIGABIT, round_trip: Duration::from_millis(50) },
    Over { name: "200 Mbit/s, 50 ms", bytes_per_second: GIGABIT / 5.0, round_trip: Duration::from_millis(50) },
    Over { name: "200 Mbit/s, 200 ms", bytes_per_second: GIGABIT / 5.0, round_trip: Duration::from_millis(200) },
];

pub fn run(_: &Peers, scale: &Scale) -> Vec<String> {
    let stage = Stage::new();
    let server = stage.runtime.block_on(s3::S3Server::start());
    let mut rows = vec![objects_without(&stage, &server, scale)];
    for over in &LINES {
        eprintln!("an object over {}", over.name);
        rows.extend(stage.runtime.block_on(object(&server, over, scale)));
    }
    let set = stage.service("bench");
    eprintln!("seeding");
    let held = stage.runtime.block_on(async {
        let client = set.client().await.unwrap();
        data::seed(&client, scale.scale).await;
        data::hashes(&client, data::DATABASE).await
    });
    stage.bucket("near", server.address);
    // Once before, so that all of them read a cache that is filled.
    for name in ["before", "near"] {
        let create = ["backup", "create", "--service", "bench", "--storage", "near", "--name", name, "--wait"];
        let sample = measure::run(stage.command(&create));
        if name == "near" {
            rows.push(table::alone("backup to S3, no line", &format!("{:.2} s", sample.seconds), ""));
        }
    }
    let verify = measure::run(stage.command(&["backup", "verify", "near", "--wait"]));
    rows.push(table::alone("verify from S3, no line", &format!("{:.2} s", verify.seconds), ""));
    for (n, over) in LINES.iter().enumerate() {
        eprintln!("a backup over {}", over.name);
        let line = stage.runtime.block_on(Line::start(server.address, over.bytes_per_second, over.round_trip));
        let (storage, name) = (format!("far{n}"), format!("far{n}"));
        stage.bucket(&storage, line.address);
        let beside = |what: &str, bytes: u64, took: Sample| {
            let alone = Sample { seconds: bytes as f64 / over.bytes_per_second, peak: 0 };
            table::seconds(&format!("{what} S3, {}", over.name), "the line for its bytes", &[alone], &[took], GOAL)
        };
        let (mut best, mut peaks) = (Vec::new(), Vec::new());
        for round in 0..scale.rounds {
            if round > 0 {
                stage.mongokeep(&["backup", "delete", &name, "--yes"]);
            }
            stage.settle(&set);
            let daemon = stage.daemon();
            let before = line.sent();
            let create = ["backup", "create", "--service", "bench", "--storage", &storage, "--name", &name, "--wait"];
            let sample = measure::run(stage.command(&create));
            best.push((sample.seconds, line.sent() - before));
            peaks.push(stage.stop(daemon));
        }
        best.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, bytes) = best[best.len() / 2];
        rows.push(beside("backup to", bytes, Sample { seconds, peak: 0 }));
        let daemon = stage.daemon();
        let before = line.received();
        let sample = measure::run(stage.command(&["backup", "verify", &name, "--wait"]));
        rows.push(beside("verify from", line.received() - before, sample));
        peaks.push(stage.stop(daemon));
        if n == 0 {
            let before = line.received();
            let sample = measure::run(stage.command(&["restore", &name, "--to", "bench", "--yes", "--wait"]));
            rows.push(beside("restore from", line.received() - before, sample));
            let hashes =
                stage.runtime.block_on(async { data::hashes(&set.client().await.unwrap(), data::DATABASE).await });
            assert_eq!(hashes, held, "what was restored differs");
        }
        let peak = table::mib(peaks.into_iter().max().unwrap_or(0));
        rows.push(table::alone(&format!("peak memory, {}", over.name), &format!("{peak:.0} MiB"), "256 MiB"));
    }
    stage.finish(vec![set]);
    rows
}

async fn opened(server: &s3::S3Server, address: std::net::SocketAddr) -> Arc<dyn Storage> {
    let config = S3Config { endpoint: Some(format!("http://{address}")), ..server.config() };
    let cancel = CancellationToken::new();
    let config = (&config).into();
    let opener = Opener::new(&config, Backoff::default(), cancel.clone());
    opener.parallel_parts(MOST_PARTS).open(&cancel).await.unwrap()
}

/// Writes an object and reads it back. Seconds of both.
async fn there_and_back(storage: Arc<dyn Storage>, bytes: u64) -> (f64, f64) {
    let key = Key::new("object").unwrap();
    let mut noise = vec![0; 16 << 20];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    let noise = Bytes::from(noise);
    let began = Instant::now();
    let mut writer = ObjectWriter::new(Arc::clone(&storage), key.clone());
    while writer.size() < bytes {
        let n = (bytes - writer.size()).min(noise.len() as u64) as usize;
        writer.write(noise.slice(..n)).await.unwrap();
    }
    let written = writer.finish().await.unwrap();
    let up = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut stream = read_ahead(storage, &key, None, bytes).await.unwrap();
    let mut hasher = blake3::Hasher::new();
    while let Some(chunk) = stream.next().await {
        hasher.update(&chunk.unwrap());
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), written.blake3);
    (up, began.elapsed().as_secs_f64())
}

fn objects_without(stage: &Stage, server: &s3::S3Server, scale: &Scale) -> String {
    let bytes = (OBJECT * scale.scale) as u64;
    let work = async { there_and_back(opened(server, server.address).await, bytes).await };
    let (up, down) = stage.runtime.block_on(work);
    let what = format!("{:.2} GB to S3 and back, no line", bytes as f64 / 1e9);
    table::alone(&what, &format!("{up:.2} s, {down:.2} s"), "")
}

async fn object(server: &s3::S3Server, over: &Over, scale: &Scale) -> [String; 2] {
    // Long enough to be measured, also on a slow line.
    let bytes = (OBJECT * scale.scale * over.bytes_per_second / GIGABIT) as u64;
    let line = Line::start(server.address, over.bytes_per_second, over.round_trip).await;
    let storage = opened(server, line.address).await;
    let before = server.requests();
    let (up, down) = there_and_back(Arc::clone(&storage), bytes).await;
    let in_flight = storage.in_flight().unwrap();
    eprintln!(
        "{} requests; at most {:?} parts and {} ranges on their way, {:?} and {} at the end",
        server.requests() - before,
        in_flight.uploads.as_ref().map(|slots| slots.most_taken()),
        in_flight.downloads.most_taken(),
        in_flight.uploads.as_ref().map(|slots| slots.limit()),
        in_flight.downloads.limit(),
    );
    [("to", up, line.sent()), ("from", down, line.received())].map(|(what, seconds, bytes)| {
        let alone = Sample { seconds: bytes as f64 / over.bytes_per_second, peak: 0 };
        let what = format!("{:.2} GB {what} S3, {}", bytes as f64 / 1e9, over.name);
        table::seconds(&what, "the line for its bytes", &[alone], &[Sample { seconds, peak: 0 }], GOAL)
    })
}
