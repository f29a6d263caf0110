//! Recovery to moments: seeded workloads of every kind of command are recorded, and each is restored to positions whose
//! truth it wrote down.

use std::collections::BTreeMap;
use std::sync::Arc;

use mongodb::bson::doc;
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::{Limits, logical};
use tokio::sync::watch;

use super::ground::{Ground, Stand};
use crate::support::dumps::{self, Folder};
use crate::support::slicing::{self, Heard, Options, Recorder};
use crate::support::{pair, recording};
use crate::workload::{Course, Moment, Outcome, Truth, Workload};

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const STEPS: usize = 120;
/// Moments that each seed is restored to.
const RESTORES: usize = 4;

/// What was recorded of the seeds.
struct Recorded {
    folder: Folder,
    base: LogicalManifest,
    heard: Heard,
    outcomes: Vec<Outcome>,
}

/// On a newer server too, whose definitions may be written down otherwise: then documents are compared.
pub async fn come_back(ground: Ground) {
    let same = ground.source.mongod.version == ground.target.mongod.version;
    let recorded = record(&ground.source).await;
    let (mut failures, mut restores) = (Vec::new(), 0);
    for outcome in &recorded.outcomes {
        for moment in recorded.moments(outcome) {
            restores += 1;
            let lines = recorded.restore(&ground.target, outcome, moment).await;
            let place = format!("seed {} to {} after {}", outcome.seed, moment.from, moment.what);
            let lines = lines.into_iter().filter(|line| same || !is_definition(line));
            failures.extend(lines.map(|line| format!("{place}: {line}")));
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
    // What never happened was not tested.
    let done: BTreeMap<_, _> = recorded.outcomes.iter().flat_map(|o| &o.done).collect();
    assert!(done.len() > 25, "the workloads did too little: {done:?}");
    assert!(restores >= SEEDS.len() * (RESTORES - 1), "only {restores} restores");
}

/// Whether a difference is none of documents or names.
fn is_definition(line: &str) -> bool {
    line.contains(": options ") || line.contains(": index ")
}

/// Has the seeds work while the oplog is recorded and a base is made.
async fn record(source: &Stand) -> Recorded {
    let folder = Folder::new();
    let server = dumps::server(&source.set).await;
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    let (based, is_based) = watch::channel(false);
    let course = Arc::new(Course { steps: watch::Sender::new(0), based: is_based });
    let tasks = SEEDS.map(|seed| {
        let workload = Workload::new(&source.client, seed);
        tokio::spawn(workload.run(seed, STEPS, course.clone()))
    });
    course.steps.subscribe().wait_for(|steps| *steps >= STEPS / 4 * SEEDS.len()).await.unwrap();
    // Small enough that collections are split, and stored in several parts.
    let limits = Limits { split_bytes: 1 << 12, part_bytes: 1 << 12, ..Limits::default() };
    let base = dumps::dump_ok(&source.set, &folder, &dumps::request("base"), limits).await;
    based.send_replace(true);
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    let note = doc! {"appendOplogNote": 1, "data": {"the": "end"}};
    source.client.database("admin").run_command(note).await.unwrap();
    recorder.reached(recording::newest(&source.client).await).await;
    let (ended, heard) = recorder.stop().await;
    ended.unwrap();
    assert!(heard.said.is_empty(), "{:?}", heard.said);
    Recorded { folder, base, heard, outcomes }
}

fn ours(ts: mongodb::bson::Timestamp) -> Timestamp {
    Timestamp::new(ts.time, ts.increment)
}

impl Recorded {
    /// The first and last moments after the base, and some between, with as many kinds of last steps as there are.
    fn moments<'a>(&self, outcome: &'a Outcome) -> Vec<&'a Moment> {
        let after: Vec<&Moment> =
            outcome.moments.iter().filter(|m| ours(m.from) > self.base.consistent_at_ts).collect();
        let mut chosen: Vec<&Moment> = after.last().copied().into_iter().collect();
        for moment in after {
            if chosen.len() < RESTORES && chosen.iter().all(|m| m.what != moment.what) {
                chosen.push(moment);
            }
        }
        chosen
    }

    /// Restores the databases of a seed, and says what differs from the truth.
    async fn restore(&self, target: &Stand, outcome: &Outcome, moment: &Moment) -> Vec<String> {
        let (until, truth) = (ours(moment.from), &moment.truth);
        let has = |db: &str| truth.state.keys().any(|ns| ns.starts_with(&format!("{db}.")));
        let include = outcome.databases.iter().filter(|db| has(db)).map(|db| db.parse().unwrap()).collect();
        // What an earlier restore left in a database that is not there at this moment.
        for db in outcome.databases.iter().filter(|db| !has(db)) {
            target.client.database(db).drop().await.unwrap();
        }
        let request = RestoreRequest { include, exact: true, ..pair::request() };
        let archive = self.heard.archive.as_ref().unwrap();
        let restored = async {
            let stored = slicing::at(&self.folder.storage, &self.base, archive, &self.heard.slices, until)?;
            let (server, ctx) = (dumps::server(&target.set).await, pair::context());
            let plan = logical::plan(&ctx.cancel, &stored, &server, &request).await?;
            logical::restore(&ctx, &stored, &server, &request, &plan).await
        };
        match restored.await {
            Ok(_) => truth.differences(&Truth::read(&target.client, &outcome.databases).await),
            Err(e) => vec![format!("the restore failed: {}", e.full())],
        }
    }
}
