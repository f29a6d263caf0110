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

    /// Once to a bucket, and back from there. The server is this process.
    fn object_storage(&self) -> [String; 2] {
        eprintln!("object storage");
        let stage = &self.stage;
        let server = stage.runtime.block_on(s3::S3Server::start());
        let (endpoint, secret) = (format!("http://{}", server.address), stage.path("secret"));
        std::fs::write(&secret, s3::SECRET_KEY).unwrap();
        let (bucket, key, secret) = (s3::BUCKET, s3::ACCESS_KEY, secret.to_str().unwrap());
        stage.mongokeep(
            &[
                &["storage", "add", "bucket", "--type", "s3", "--bucket", bucket, "--endpoint", &endpoint][..],
                &["--path-style", "--access-key-id", key, "--secret-access-key-file", secret],
            ]
            .concat(),
        );
        let once = |what: &str, args: &[&str]| {
            stage.settle(&self.set);
            let daemon = stage.daemon();
            let sample = measure::run(stage.command(args));
            let peak = table::mib(stage.stop(daemon));
            table::alone(what, &format!("{:.2} s, {peak:.0} MiB", sample.seconds), "256 MiB")
        };
        let create = ["backup", "create", "--service", "bench", "--storage", "bucket", "--name", "far", "--wait"];
        let rows = [
            once("backup to S3, peak memory", &create),
            once("restore from S3, peak memory", &["restore", "far", "--to", "bench", "--yes", "--wait"]),
        ];
        self.same("mongokeep from S3");
        rows
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
