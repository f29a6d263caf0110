//! A whole backup and the way back, of the data set: documents of every size, five indexes.

use std::path::Path;

use mongokeep::sandbox::ReplicaSet;

use crate::measure::{self, Sample, median};
use crate::pbm::Pbm;
use crate::stage::{PROGRAM, Stage, folder_bytes};
use crate::{Peers, Scale, data, s3, table};

const MONGODUMP: &str = "mongodump --gzip";
const PBM: &str = "pbm, zstd";

struct Bench<'a> {
    stage: Stage,
    set: ReplicaSet,
    peers: &'a Peers,
    rounds: usize,
    hashes: Vec<String>,
}

pub fn run(peers: &Peers, scale: &Scale) -> Vec<String> {
    let stage = Stage::new();
    let set = stage.service("bench");
    eprintln!("seeding");
    let (documents, bytes, hashes) = stage.runtime.block_on(async {
        let client = set.client().await.unwrap();
        let (documents, bytes) = data::seed(&client, scale.scale).await;
        (documents, bytes, data::hashes(&client, data::DATABASE).await)
    });
    eprintln!("{documents} documents, {:.1} MB of BSON", bytes as f64 / 1e6);
    let bench = Bench { stage, set, peers, rounds: scale.rounds, hashes };
    let mut rows = bench.there_and_back();
    rows.push(bench.encrypted());
    rows.extend(bench.object_storage());
    let home = bench.stage.home();
    let frames: Vec<f64> = (0..scale.rounds.max(3)).map(|_| measure::first_frame(PROGRAM, &home)).collect();
    rows.push(table::alone("first frame of the screen", &format!("{:.0} ms", median(frames) * 1e3), "100 ms"));
    bench.stage.finish(vec![bench.set]);
    rows
}

impl Bench<'_> {
    fn there_and_back(&self) -> Vec<String> {
        let (stage, uri, rounds) = (&self.stage, self.set.uri(), self.rounds);
        let (mut stock, mut own, mut theirs): (Vec<Sample>, Vec<Sample>, Vec<Sample>) = Default::default();
        let (dump, restorable, mut own_size) = (stage.path("dump"), stage.path("restorable"), 0);
        let mongodump = |to: &Path| {
            let _ = std::fs::remove_dir_all(to);
            let mut command = self.peers.tools.mongodump();
            command.args(["--uri", &uri, "--oplog", "--gzip", "--quiet", "--out"]).arg(to);
            measure::run(command)
        };
        // Of the server alone: mongorestore would replay changes of the books that PBM keeps there, and fail.
        mongodump(&restorable);
        let folder = stage.path("pbm");
        let pbm = self.peers.pbm.as_ref().map(|programs| Pbm::start(programs, &self.set, &folder, &stage.scratch));
        let daemon = stage.daemon();
        for round in 0..rounds {
            eprintln!("backup {}/{rounds}", round + 1);
            stage.settle(&self.set);
            stock.push(mongodump(&dump));
            if let Some(pbm) = &pbm {
                pbm.settle();
                stage.settle(&self.set);
                theirs.push(measure::run(pbm.command(&["backup", "--compression=zstd", "--wait"])));
                pbm.settle();
            }
            stage.settle(&self.set);
            let name = format!("round{round}");
            let create = ["backup", "create", "--service", "bench", "--storage", "disk", "--name", &name, "--wait"];
            own.push(measure::run(stage.command(&create)));
            own_size = stage.mongokeep(&["backup", "show", &name])["size_bytes"].as_u64().unwrap();
            if round > 0 {
                stage.mongokeep(&["backup", "delete", &name, "--yes"]);
            }
        }
        let peak = stage.stop(daemon);
        let mut rows = vec![
            table::seconds("backup, wall", MONGODUMP, &stock, &own, "0.30"),
            table::size("backup, artifact", MONGODUMP, folder_bytes(&dump), own_size, "1.02"),
            table::memory("backup, peak memory", MONGODUMP, table::peak(&stock), peak, "256 MiB"),
        ];
        if pbm.is_some() {
            rows.push(table::seconds("backup, wall", PBM, &theirs, &own, "0.30"));
            let size = folder_bytes(&folder) / rounds as u64;
            rows.push(table::size("backup, artifact", PBM, size, own_size, ""));
        }
        let daemon = stage.daemon();
        let (mut stock, mut own, mut theirs): (Vec<Sample>, Vec<Sample>, Vec<Sample>) = Default::default();
        for round in 0..rounds {
            eprintln!("restore {}/{rounds}", round + 1);
            stage.settle(&self.set);
            let mut command = self.peers.tools.mongorestore();
            command.args(["--uri", &uri, "--gzip", "--oplogReplay", "--drop", "--quiet"]).arg(&restorable);
            stock.push(measure::run(command));
            self.same("mongorestore");
            if let Some(pbm) = &pbm {
                pbm.settle();
                stage.settle(&self.set);
                theirs.push(measure::run(pbm.command(&["restore", &pbm.newest(), "--yes", "--wait"])));
                self.same("pbm");
                pbm.settle();
            }
            stage.settle(&self.set);
            own.push(measure::run(stage.command(&["restore", "round0", "--to", "bench", "--yes", "--wait"])));
            self.same("mongokeep");
        }
        rows.push(table::seconds("restore, wall", "mongorestore", &stock, &own, "0.75"));
        let peak = stage.stop(daemon);
        rows.push(table::memory("restore, peak memory", "mongorestore", table::peak(&stock), peak, "256 MiB"));
        if let Some(pbm) = pbm {
            rows.push(table::seconds("restore, wall", "pbm", &theirs, &own, ""));
            pbm.stop();
        }
        rows
    }

    /// What encryption costs: the same backup with it and without, in turn.
    fn encrypted(&self) -> String {
        let stage = &self.stage;
        let (folder, recipient) = (stage.path("locked"), age::x25519::Identity::generate().to_public().to_string());
        let of = ["--type", "filesystem", "--path", folder.to_str().unwrap(), "--encrypt-to", &recipient, "--no-proof"];
        stage.mongokeep(&[&["storage", "add", "locked"], &of[..]].concat());
        let daemon = stage.daemon();
        let (mut plain, mut sealed): (Vec<Sample>, Vec<Sample>) = Default::default();
        // One more than the others: both read a cache that the first one filled.
        for round in 0..=self.rounds {
            eprintln!("encrypted {round}/{}", self.rounds);
            for (storage, samples) in [("disk", &mut plain), ("locked", &mut sealed)] {
                stage.settle(&self.set);
                let name = format!("{storage}-{round}");
                let create =
                    ["backup", "create", "--service", "bench", "--storage", storage, "--name", &name, "--wait"];
                let sample = measure::run(stage.command(&create));
                if round > 0 {
                    samples.push(sample);
                }
                stage.mongokeep(&["backup", "delete", &name, "--yes"]);
            }
        }
        stage.stop(daemon);
        table::seconds("encrypted backup, wall", "the same, not encrypted", &plain, &sealed, "1.15")
    }

    /// Once to a bucket, and back from there. The server is this process.
    fn object_storage(&self) -> [String; 4] {
        eprintln!("object storage");
        let stage = &self.stage;
        let server = stage.runtime.block_on(s3::S3Server::start());
        stage.bucket("bucket", server.address);
        let once = |what: &str, args: &[&str]| {
            stage.settle(&self.set);
            let daemon = stage.daemon();
            let before = server.requests();
            let sample = measure::run(stage.command(args));
            let requests = server.requests() - before;
            let peak = table::mib(stage.stop(daemon));
            let stored = stage.mongokeep(&["backup", "show", "far"])["size_bytes"].as_u64().unwrap() as f64 / 1e9;
            let each = format!("{:.0} ({requests} for {stored:.2} GB)", requests as f64 / stored);
            [
                table::alone(
                    &format!("{what}, peak memory"),
                    &format!("{:.2} s, {peak:.0} MiB", sample.seconds),
                    "256 MiB",
                ),
                table::alone(&format!("{what}, requests for each stored GB"), &each, ""),
            ]
        };
        let create = ["backup", "create", "--service", "bench", "--storage", "bucket", "--name", "far", "--wait"];
        let [backup, asked] = once("backup to S3", &create);
        let [restore, read] = once("restore from S3", &["restore", "far", "--to", "bench", "--yes", "--wait"]);
        self.same("mongokeep from S3");
        [backup, asked, restore, read]
    }

    /// A fast restore of something else is worth nothing.
    fn same(&self, who: &str) {
        let hashes = self
            .stage
            .runtime
            .block_on(async { data::hashes(&self.set.client().await.unwrap(), data::DATABASE).await });
        assert_eq!(hashes, self.hashes, "what {who} restored differs");
    }
}
