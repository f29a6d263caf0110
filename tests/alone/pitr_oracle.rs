//! Going back to any position of the oplog, compared with what was true there.
//!
//! Seeds work in databases of their own, a few at a time, while the oplog is recorded in tiny slices and a base is taken
//! in the middle. Each seed is then restored elsewhere to positions whose truth it wrote down, the edges of slices, bases
//! and transactions among them. At some positions everything is restored, and compared with what the server itself
//! recovers on a copy of its files.
//!
//! `MONGOKEEP_TEST_SEEDS` (100) says how many seeds there are, `MONGOKEEP_TEST_FIRST_SEED` (1) where to begin, to repeat
//! one that failed; a single one is restored to every position it wrote down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use mongodb::Client;
use mongodb::bson::doc;
use mongokeep::domain::pitr::{Archive, Slice};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::logical;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::{Context, Limits};
use mongokeep::mongo::Server;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use mongokeep::storage::Storage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::oracle::Base;
use crate::support;
use crate::support::hooked::{Slow, hooked};
use crate::support::slicing::{self, Heard, Options, Recorder};
use crate::support::{compare, dumps, recording};
use crate::workload;
use crate::workload::{Course, Moment, Outcome, Truth, Workload};

/// Seeds that work at the same time, on one replica set, with one base.
const WAVE: u64 = 20;
const STEPS: usize = 60;
/// So that many positions are the edge of a slice.
const SLICE: Duration = Duration::from_millis(250);
/// Restores at the same time.
const RESTORES: usize = 3;
/// Of this index the server's own recovery forgets that it has no collation where its collection has one: the entry of the
/// oplog does not say so. The truths of the seeds do, and restores are compared with them.
const FORGOTTEN: &str = ": index simple ";
/// Every so manieth wave is also restored as a whole.
const WHOLE: u64 = 3;

/// Two hundred workloads, each restored to moments of its own.
pub async fn every_position_is_restored_as_it_was() {
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse::<u64>().unwrap());
    let (count, first) = (number("MONGOKEEP_TEST_SEEDS", 100), number("MONGOKEEP_TEST_FIRST_SEED", 1));
    let seeds: Vec<u64> = (first..first + count).collect();
    let stand = Arc::new(Stand::start().await);
    let mut report = Report::default();
    let mut slices = Slices::default();
    let mut recorder = stand.record(&slices).await;
    let mut bases: Vec<Arc<LogicalManifest>> = Vec::new();
    let mut checking: Option<tokio::task::JoinHandle<Report>> = None;
    for (n, wave) in seeds.chunks(WAVE as usize).enumerate() {
        stand.clear(&stand.from).await;
        let copy = if (n as u64).is_multiple_of(WHOLE) { Some(Base::copy(&stand.source).await) } else { None };
        let start = Instant::now();
        let (outcomes, base) = stand.run(wave).await;
        report.count(&outcomes);
        bases.push(Arc::new(base));
        // Recording goes on where it ended, from wave to wave.
        slices.add(stand.end(recorder).await);
        recorder = stand.record(&slices).await;
        eprintln!(
            "wave {n}: {} seeds and their base in {:.1} s, {} slices",
            wave.len(),
            start.elapsed().as_secs_f64(),
            slices.list.len()
        );
        if let Some(task) = checking.take() {
            report.add(task.await.unwrap());
        }
        let check = Check {
            stand: stand.clone(),
            bases: bases[bases.len().saturating_sub(2)..].to_vec(),
            slices: slices.clone(),
            every_moment: count == 1,
        };
        checking = Some(tokio::spawn(async move {
            let start = Instant::now();
            let mut report = check.wave(&outcomes).await;
            if let Some(copy) = copy {
                report.add(check.whole(&outcomes, copy).await);
            }
            eprintln!("wave {n}: checked in {:.1} s", start.elapsed().as_secs_f64());
            report
        }));
    }
    if let Some(task) = checking {
        report.add(task.await.unwrap());
    }
    stand.end(recorder).await;
    report.judge(count);
}

/// Where everything happens.
struct Stand {
    source: ReplicaSet,
    target: ReplicaSet,
    from: Client,
    to: Client,
    storage: Arc<dyn Storage>,
    folder: dumps::Folder,
}

impl Stand {
    async fn start() -> Self {
        let mongod = support::mongod().await;
        let options = ReplicaSetOptions {
            // Small transactions take several entries, as large ones do.
            args: ["--setParameter", "maxNumberOfTransactionOperationsInSingleOplogEntry=2"].map(str::to_owned).into(),
            ..ReplicaSetOptions::default().test_commands()
        };
        // Collections that only test commands make, such as clustered and capped ones, are made there too.
        let target = ReplicaSet::start(&mongod, ReplicaSetOptions::default().test_commands());
        let (source, target) = tokio::join!(ReplicaSet::start(&mongod, options), target);
        let (source, target) = (source.unwrap(), target.unwrap());
        let (from, to) = (source.client().await.unwrap(), target.client().await.unwrap());
        // One member: its journal is nothing that the workload needs to wait for.
        let concern = doc! {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1}};
        from.database("admin").run_command(concern).await.unwrap();
        books_of_others(&from).await;
        let folder = dumps::Folder::new();
        Self { source, target, from, to, storage: folder.storage.clone(), folder }
    }

    /// Goes on after `known`.
    async fn record(&self, known: &Slices) -> Recorder {
        let known = known.archive.iter().cloned().zip(known.list.last().cloned()).collect();
        let options = Options { known, slice_length: SLICE, ..Options::default() };
        Recorder::begun(&dumps::server(&self.source).await, &self.storage, options).await
    }

    /// Stops when everything that is in the oplog now is recorded.
    async fn end(&self, mut recorder: Recorder) -> Heard {
        self.from.database("admin").run_command(doc! {"appendOplogNote": 1, "data": {"end": 1}}).await.unwrap();
        recorder.reached(recording::newest(&self.from).await).await;
        let (ended, heard) = recorder.stop().await;
        ended.unwrap();
        heard
    }

    async fn clear(&self, client: &Client) {
        for name in client.list_database_names().await.unwrap() {
            if !["admin", "config", "local"].contains(&name.as_str()) {
                client.database(&name).drop().await.unwrap();
            }
        }
    }

    /// Has the seeds work, and takes a base meanwhile.
    async fn run(&self, seeds: &[u64]) -> (Vec<Outcome>, LogicalManifest) {
        let (based, is_based) = watch::channel(false);
        let course = Arc::new(Course { steps: watch::Sender::new(0), based: is_based });
        let tasks: Vec<_> = seeds
            .iter()
            .map(|seed| tokio::spawn(Workload::new(&self.from, *seed).run(*seed, STEPS, course.clone())))
            .collect();
        let begun = STEPS / 4 * seeds.len();
        course.steps.subscribe().wait_for(|steps| *steps >= begun).await.unwrap();
        let base = self.dump(seeds[0]).await;
        books_of_others(&self.from).await;
        based.send_replace(true);
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        (outcomes, base)
    }

    async fn dump(&self, seed: u64) -> LogicalManifest {
        // Half of the waves are read in small pieces, the others as they lie, in large collections batch after batch.
        let in_pieces = seed % (2 * WAVE) < WAVE && !workload::has_large(seed);
        let (split_bytes, part_bytes, longest) = if in_pieces { (1 << 12, 1 << 12, 4) } else { (1 << 30, 1 << 20, 40) };
        let (storage, _) = hooked(&self.folder.storage, Slow::new(seed, Duration::from_millis(longest)));
        let limits = Limits { split_bytes, part_bytes, ..Limits::default() };
        let (ctx, log) = dumps::context(limits);
        let server = dumps::server(&self.source).await;
        let request = dumps::request(&format!("base{seed}"));
        match logical::dump(&ctx, storage, &server, &request).await {
            Ok(manifest) => manifest,
            Err(e) => panic!("seeds from {seed}: the base failed: {e:?}\n{:#?}", log.lock().unwrap()),
        }
    }

    /// Restores what `databases` names (everything: empty) to `until`.
    async fn restore(
        &self,
        base: &LogicalManifest,
        slices: &Slices,
        until: Timestamp,
        databases: &[&str],
    ) -> Result<(), String> {
        let request = RestoreRequest {
            data_folder: None,
            mongod: None,
            no_check: false,
            replset_map: Vec::new(),
            identity_file: None,
            backup: base.name.clone(),
            point_in_time: None,
            to: "target".into(),
            include: databases.iter().map(|db| db.parse().unwrap()).collect(),
            rename: Vec::new(),
            exact: true,
            no_ttl: false,
            users_and_roles: false,
            safety_backup: false,
        };
        let ctx = Context::default();
        let restored = async {
            let uri = Secret::new(self.target.uri());
            let server = Server::connect("target", &uri, Duration::from_secs(30)).await?;
            let archive = slices.archive.as_ref().unwrap();
            let stored = slicing::at(&self.storage, base, archive, &slices.list, until)?;
            let plan = logical::plan(&ctx.cancel, &stored, &server, &request).await?;
            logical::restore(&ctx, &stored, &server, &request, &plan).await
        };
        restored.await.map(drop).map_err(|e| format!("the restore failed: {e:?}"))
    }
}

/// A change by another tool that works on the same server, and whose books no backup holds.
async fn books_of_others(client: &Client) {
    let books = client.database("admin").collection::<mongodb::bson::Document>("pbmAgents");
    books.update_one(doc! {"_id": 1}, doc! {"$inc": {"seen": 1}}).upsert(true).await.unwrap();
}

/// All that was recorded so far.
#[derive(Default, Clone)]
struct Slices {
    archive: Option<Archive>,
    list: Vec<Slice>,
}

impl Slices {
    fn add(&mut self, heard: Heard) {
        assert!(heard.said.is_empty(), "{:?}", heard.said);
        assert!(heard.slices.iter().all(|s| s.gap.is_none()), "a gap: {:?}", heard.slices);
        self.archive = heard.archive.or(self.archive.take());
        self.list.extend(heard.slices);
    }
}

/// What is known when a wave is over.
struct Check {
    stand: Arc<Stand>,
    /// The base of the wave is the last one; the one of the wave before, when there was one, is before it.
    bases: Vec<Arc<LogicalManifest>>,
    slices: Slices,
    every_moment: bool,
}

/// A position to restore.
struct Target {
    at: Timestamp,
    /// What is special about it.
    edge: &'static str,
    base: Arc<LogicalManifest>,
    truth: Arc<Truth>,
    /// What the seed had done last.
    after: &'static str,
}

impl Check {
    async fn wave(&self, outcomes: &[Outcome]) -> Report {
        let seeds: Vec<_> = outcomes.iter().map(|outcome| self.seed(outcome)).collect();
        let mut reports = futures_util::stream::iter(seeds).buffer_unordered(RESTORES);
        let mut all = Report::default();
        while let Some(report) = reports.next().await {
            all.add(report);
        }
        all
    }

    async fn seed(&self, outcome: &Outcome) -> Report {
        let mut report = Report::default();
        let stand = &self.stand;
        for target in self.targets(outcome) {
            let Target { at, edge, base, truth, after } = target;
            let has = |db: &str| truth.state.keys().any(|ns| ns.starts_with(&format!("{db}.")));
            let databases: Vec<&str> = outcome.databases.iter().map(String::as_str).filter(|db| has(db)).collect();
            if databases.is_empty() {
                continue;
            }
            // What this seed's last restore left is replaced by this one, or else goes.
            let others: Vec<String> = outcome.databases.iter().filter(|db| !has(db)).cloned().collect();
            self.drop(&others).await;
            let mut lines = match stand.restore(&base, &self.slices, at, &databases).await {
                Ok(()) => truth.differences(&Truth::read(&stand.to, &outcome.databases).await),
                Err(e) => vec![e],
            };
            *report.edges.entry(edge).or_default() += 1;
            report.restores += 1;
            lines.iter_mut().for_each(|line| {
                *line = format!("seed {} to {at} ({edge}, after {after}, from {}): {line}", outcome.seed, base.name);
            });
            report.failures.extend(lines);
        }
        self.drop(&outcome.databases).await;
        report
    }

    async fn drop(&self, databases: &[String]) {
        for db in databases {
            self.stand.to.database(db).drop().await.unwrap();
        }
    }

    /// One or two positions of each seed, or all of them.
    fn targets(&self, outcome: &Outcome) -> Vec<Target> {
        let mut rng = StdRng::seed_from_u64(outcome.seed);
        let own = self.bases.last().unwrap();
        // From the base before, nothing of the seed is in the base: all of it is in the slices.
        let base = if outcome.seed.is_multiple_of(4) { &self.bases[0] } else { own };
        let mut found = Vec::new();
        for moment in &outcome.moments {
            for (at, edge) in self.positions(moment, base.consistent_at_ts) {
                let (truth, base) = (moment.truth.clone(), base.clone());
                found.push(Target { at, edge, base, truth, after: moment.what });
            }
        }
        if self.every_moment {
            found.sort_by_key(|target| target.at);
            found.dedup_by_key(|target| target.at);
            return found;
        }
        // Rare kinds of edges first: each is as likely as the others.
        let mut kinds: BTreeMap<&str, Vec<Target>> = BTreeMap::new();
        found.into_iter().for_each(|target| kinds.entry(target.edge).or_default().push(target));
        let mut chosen = Vec::new();
        for _ in 0..if outcome.seed.is_multiple_of(3) { 2 } else { 1 } {
            if kinds.is_empty() {
                break;
            }
            let kind = *kinds.keys().nth(rng.random_range(0..kinds.len())).unwrap();
            let mut list = kinds.remove(kind).unwrap();
            chosen.push(list.swap_remove(rng.random_range(0..list.len())));
        }
        chosen
    }

    /// The positions within a moment that are worth restoring, none before `base`.
    fn positions(&self, moment: &Moment, base: Timestamp) -> Vec<(Timestamp, &'static str)> {
        let ours = |ts: mongodb::bson::Timestamp| Timestamp::new(ts.time, ts.increment);
        let (from, to) = (ours(moment.from), ours(moment.to));
        if to < base {
            return Vec::new();
        }
        let mut found = Vec::new();
        if from <= base {
            found.push((base, "the moment of the base"));
        }
        let ended = moment.what.contains("commit") || moment.what.contains("abort");
        if moment.what.starts_with("before") {
            found.push((to, "just before a commit"));
        } else if ended && from > base {
            found.push((from, "at a commit"));
            let next = Timestamp::new(from.t, from.i + 1);
            if next <= to {
                found.push((next, "just after a commit"));
            }
        } else if from > base {
            found.push((from, "a change"));
        }
        let mut ends = self.slices.list.iter().map(|s| s.last.ts);
        if let Some(edge) = ends.find(|ts| from.max(base) <= *ts && *ts <= to) {
            found.push((edge, "the end of a slice"));
            let next = Timestamp::new(edge.t, edge.i + 1);
            if next <= to {
                found.push((next, "after the end of a slice"));
            }
        }
        found
    }

    /// Restores everything, and compares with what the server recovers, and that with what the seeds wrote down.
    async fn whole(&self, outcomes: &[Outcome], copy: Base) -> Report {
        let mut report = Report::default();
        let (stand, base) = (&self.stand, self.bases.last().unwrap());
        // Of the ends of slices after the base, the one that the most seeds wrote down.
        let ends = self.slices.list.iter().map(|s| s.last.ts).filter(|ts| *ts > base.consistent_at_ts);
        let server = |ts: Timestamp| mongodb::bson::Timestamp { time: ts.t, increment: ts.i };
        let known = |at| outcomes.iter().flat_map(|o| &o.moments).filter(|m| m.holds(server(at))).count();
        let at = ends.max_by_key(|ts| known(*ts)).unwrap();
        let position = server(at);
        let recovered = copy.recover(&stand.from, position).await;
        for outcome in outcomes {
            for moment in outcome.moments.iter().filter(|m| m.holds(position)) {
                let found = Truth::read(&recovered.client, &outcome.databases).await;
                let lines = moment.truth.differences(&found).into_iter().filter(|line| !line.contains(FORGOTTEN));
                let seed = outcome.seed;
                report
                    .failures
                    .extend(lines.map(|l| format!("seed {seed} at {at}: the server recovers otherwise: {l}")));
                report.agreed += 1;
            }
        }
        let expected = compare::state(&recovered.client).await;
        if let Err(e) = stand.restore(base, &self.slices, at, &[]).await {
            report.failures.push(format!("everything to {at} from {}: {e}", base.name));
            return report;
        }
        let lines = compare::differences(&expected, &compare::state(&stand.to).await).into_iter();
        let lines = lines.filter(|line| !line.contains(FORGOTTEN));
        report.failures.extend(lines.map(|l| format!("everything to {at} from {}: {l}", base.name)));
        report.wholes += 1;
        stand.clear(&stand.to).await;
        report
    }
}

/// What was done, and what is wrong.
#[derive(Default)]
struct Report {
    failures: Vec<String>,
    restores: u64,
    wholes: u64,
    /// Truths that the server's own recovery agreed with or not.
    agreed: u64,
    edges: BTreeMap<&'static str, u64>,
    done: BTreeMap<&'static str, u64>,
}

impl Report {
    fn count(&mut self, outcomes: &[Outcome]) {
        let all = outcomes.iter().flat_map(|o| &o.done);
        all.for_each(|(kind, n)| *self.done.entry(kind).or_default() += n);
    }

    fn add(&mut self, other: Self) {
        self.failures.extend(other.failures);
        self.restores += other.restores;
        self.wholes += other.wholes;
        self.agreed += other.agreed;
        other.edges.into_iter().for_each(|(edge, n)| *self.edges.entry(edge).or_default() += n);
        other.done.into_iter().for_each(|(kind, n)| *self.done.entry(kind).or_default() += n);
    }

    fn judge(self, seeds: u64) {
        eprintln!(
            "{} restores to {:?}, {} of everything, {} truths compared with the server's",
            self.restores, self.edges, self.wholes, self.agreed
        );
        eprintln!("the workloads did {:?}", self.done);
        let n = self.failures.len();
        assert!(
            n == 0,
            "{n} differences:\n{}\none seed alone: MONGOKEEP_TEST_SEEDS=1 MONGOKEEP_TEST_FIRST_SEED=N cargo test --test alone \
             pitr_oracle",
            self.failures.join("\n")
        );
        // What never happened was not tested.
        if seeds < 100 {
            return;
        }
        assert!(self.restores >= seeds && self.wholes >= 2 && self.agreed > 10);
        for kind in workload::KINDS {
            assert!(self.done.contains_key(kind), "no {kind} succeeded");
        }
        let edges = [
            "a change",
            "after the end of a slice",
            "at a commit",
            "just after a commit",
            "just before a commit",
            "the end of a slice",
            "the moment of the base",
        ];
        for edge in edges {
            assert!(self.edges.contains_key(edge), "nothing was restored to {edge}");
        }
    }
}
