//! Objects and whole backups over a simulated line, beside what the line alone needs for the same bytes, or this machine where
//! that is the slower of the two: server, line and backup share its processors. What the machine takes goes over a simulated
//! line, too, one without an end to its speed and without delay. What the server needs to put the parts of an object together comes
//! after the line is done, and is counted with it.

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
const PEER: &str = "line or machine alone";
/// The default.
const COMPRESSION: &str = "zstd:2";
/// Bytes of the one object.
const OBJECT: f64 = 1e9;

struct Over {
    name: &'static str,
    bytes_per_second: f64,
    round_trip: Duration,
}

impl Over {
    fn seconds_for(&self, bytes: u64) -> f64 {
        bytes as f64 / self.bytes_per_second
    }
}

const LINES: [Over; 3] = [
    Over { name: "1 Gbit/s, 50 ms", bytes_per_second: GIGABIT, round_trip: Duration::from_millis(50) },
    Over { name: "200 Mbit/s, 50 ms", bytes_per_second: GIGABIT / 5.0, round_trip: Duration::from_millis(50) },
    Over { name: "200 Mbit/s, 200 ms", bytes_per_second: GIGABIT / 5.0, round_trip: Duration::from_millis(200) },
];

pub fn run(_: &Peers, scale: &Scale) -> Vec<String> {
    let stage = Stage::new();
    let server = stage.runtime.block_on(s3::S3Server::start());
    let mut rows = Vec::new();
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
    let near = stage.runtime.block_on(at_once(&server));
    stage.bucket("near", near.address);
    let backup_as = |storage: &str, name: &str, compression: &str| {
        let create = ["backup", "create", "--service", "bench", "--storage", storage, "--name", name, "--wait"];
        measure::run(stage.command(&[&create[..], &["--compression", compression]].concat())).seconds
    };
    let backup = |storage: &str, name: &str| backup_as(storage, name, COMPRESSION);
    let verify = |name: &str| measure::run(stage.command(&["backup", "verify", name])).seconds;
    let restore =
        |name: &str| measure::run(stage.command(&["restore", name, "--to", "bench", "--yes", "--wait"])).seconds;
    // Once before, so that all of them read a cache that is filled.
    backup("near", "before");
    let [up, down, back] = [backup("near", "near"), verify("near"), restore("near")];
    let plain = backup_as("near", "plain", "none");
    for (what, seconds) in [("backup to", up), ("verify from", down), ("restore from", back)] {
        rows.push(table::alone(&format!("{what} S3, no line"), &format!("{seconds:.2} s"), ""));
    }
    for (n, over) in LINES.iter().enumerate() {
        eprintln!("a backup over {}", over.name);
        let line = stage.runtime.block_on(Line::start(server.address, over.bytes_per_second, over.round_trip));
        let (storage, name) = (format!("far{n}"), format!("far{n}"));
        stage.bucket(&storage, line.address);
        let beside = |what: &str, bytes: u64, machine: f64, took: f64| {
            row(&format!("{what} S3, {}", over.name), over.seconds_for(bytes).max(machine), took)
        };
        let (mut best, mut peaks) = (Vec::new(), Vec::new());
        for round in 0..scale.rounds {
            if round > 0 {
                stage.mongokeep(&["backup", "delete", &name, "--yes"]);
            }
            stage.settle(&set);
            let daemon = stage.daemon();
            let before = line.sent();
            best.push((backup(&storage, &name), line.sent() - before));
            peaks.push(("backup", stage.stop(daemon)));
        }
        best.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, bytes) = best[best.len() / 2];
        rows.push(beside("backup to", bytes, up, seconds));
        let daemon = stage.daemon();
        let before = line.received();
        let seconds = verify(&name);
        rows.push(beside("verify from", line.received() - before, down, seconds));
        peaks.push(("verify", stage.stop(daemon)));
        if n == 0 {
            let before = line.received();
            let seconds = restore(&name);
            rows.push(beside("restore from", line.received() - before, back, seconds));
            let before = line.sent();
            let seconds = backup_as(&storage, "far-plain", "none");
            rows.push(beside("backup without compression to", line.sent() - before, plain, seconds));
            let hashes =
                stage.runtime.block_on(async { data::hashes(&set.client().await.unwrap(), data::DATABASE).await });
            assert_eq!(hashes, held, "what was restored differs");
        }
        let (what, peak) = peaks.into_iter().max_by_key(|(_, peak)| *peak).unwrap_or(("backup", 0));
        let shown = format!("{:.0} MiB", table::mib(peak));
        rows.push(table::alone(&format!("peak memory, {} ({what})", over.name), &shown, "256 MiB"));
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

/// What the machine takes when the line does not hold it up.
async fn at_once(server: &s3::S3Server) -> Line {
    Line::start(server.address, 1e15, Duration::ZERO).await
}

fn row(what: &str, alone: f64, own: f64) -> String {
    let [alone, own] = [alone, own].map(|seconds| Sample { seconds, peak: 0 });
    table::seconds(what, PEER, &[alone], &[own], GOAL)
}

async fn object(server: &s3::S3Server, over: &Over, scale: &Scale) -> [String; 2] {
    // Long enough to be measured, also on a slow line.
    let bytes = (OBJECT * scale.scale * over.bytes_per_second / GIGABIT) as u64;
    let near = at_once(server).await;
    let (near_up, near_down) = there_and_back(opened(server, near.address).await, bytes).await;
    let line = Line::start(server.address, over.bytes_per_second, over.round_trip).await;
    let storage = opened(server, line.address).await;
    let (before, assembled) = (server.requests(), server.assembling());
    let (up, down) = there_and_back(Arc::clone(&storage), bytes).await;
    // The server begins with that when it has all bytes, and says nothing before it is done.
    let assembling = (server.assembling() - assembled).as_secs_f64();
    let in_flight = storage.in_flight().unwrap();
    eprintln!(
        "{} requests; at most {:?} parts and {} ranges on their way, {:?} and {} at the end",
        server.requests() - before,
        in_flight.uploads.as_ref().map(|slots| slots.most_taken()),
        in_flight.downloads.most_taken(),
        in_flight.uploads.as_ref().map(|slots| slots.limit()),
        in_flight.downloads.limit(),
    );
    let up_alone = (over.seconds_for(line.sent()) + assembling).max(near_up);
    let down_alone = over.seconds_for(line.received()).max(near_down);
    [("to", up_alone, up), ("from", down_alone, down)].map(|(what, alone, seconds)| {
        row(&format!("{:.2} GB {what} S3, {}", bytes as f64 / 1e9, over.name), alone, seconds)
    })
}
