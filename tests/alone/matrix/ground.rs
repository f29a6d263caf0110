//! The servers under the cases: started once for each version, emptied before each case.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use libtest_mimic::Trial;
use mongodb::Client;
use mongokeep::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions};
use tokio::sync::OnceCell;

use crate::support::versions::mongod_of;
use crate::{RUNTIME, VERSIONS, in_lane};

/// What a case is given: where it reads, and where it restores into. Both hold nothing.
pub struct Ground {
    pub source: Arc<Stand>,
    pub target: Arc<Stand>,
}

/// A replica set of one member.
pub struct Stand {
    pub mongod: Mongod,
    pub set: ReplicaSet,
    pub client: Client,
}

impl Stand {
    /// Whether the server is of this release (`5.0`) or a newer one.
    pub fn is_at_least(&self, release: &str) -> bool {
        let numbers = |text: &str| -> Vec<u32> { text.split('.').take(2).map(|n| n.parse().unwrap()).collect() };
        numbers(&self.mongod.version) >= numbers(release)
    }

    async fn start(mongod: Mongod) -> Self {
        let set = ReplicaSet::start(&mongod, ReplicaSetOptions::default().test_commands()).await.unwrap();
        let client = set.client().await.unwrap();
        Self { mongod, set, client }
    }

    async fn clear(&self) {
        for name in self.client.list_database_names().await.unwrap() {
            if !["admin", "config", "local"].contains(&name.as_str()) {
                self.client.database(&name).drop().await.unwrap();
            }
        }
    }
}

type Run = Arc<dyn Fn(Ground) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// One case on one version, or from one version into another.
pub struct Case {
    name: String,
    from: &'static str,
    to: &'static str,
    run: Run,
}

fn case<F>(name: String, from: &'static str, to: &'static str, run: fn(Ground) -> F) -> Case
where
    F: Future<Output = ()> + 'static,
{
    Case { name, from, to, run: Arc::new(move |ground| Box::pin(run(ground))) }
}

/// `run` on each of `versions`.
pub fn on<F>(
    versions: impl IntoIterator<Item = &'static str>,
    name: &'static str,
    run: fn(Ground) -> F,
) -> impl Iterator<Item = Case>
where
    F: Future<Output = ()> + 'static,
{
    versions.into_iter().map(move |version| case(format!("{version}::{name}"), version, version, run))
}

/// `run` from the first version of each pair into the second.
pub fn between<F>(
    pairs: impl IntoIterator<Item = (&'static str, &'static str)>,
    name: &'static str,
    run: fn(Ground) -> F,
) -> impl Iterator<Item = Case>
where
    F: Future<Output = ()> + 'static,
{
    pairs.into_iter().map(move |(from, to)| case(format!("{from}->{to}::{name}"), from, to, run))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Source,
    Target,
}

type Slot = Arc<OnceCell<Option<Arc<Stand>>>>;
static STANDS: Mutex<BTreeMap<(&str, Part), Slot>> = Mutex::new(BTreeMap::new());

/// The running servers of `version`, or `None` where it cannot be had, which was said.
async fn stand(version: &'static str, part: Part) -> Option<Arc<Stand>> {
    let slot = Slot::clone(STANDS.lock().unwrap().entry((version, part)).or_default());
    let start = async {
        match mongod_of(version).await {
            Some(mongod) => Some(Arc::new(Stand::start(mongod).await)),
            None => None,
        }
    };
    slot.get_or_init(|| start).await.clone()
}

pub fn trial(case: Case) -> Trial {
    in_lane(VERSIONS, &format!("matrix::{}", case.name), move || run(&case))
}

fn run(case: &Case) {
    RUNTIME.block_on(async {
        let (Some(source), Some(target)) = (stand(case.from, Part::Source).await, stand(case.to, Part::Target).await)
        else {
            return;
        };
        source.clear().await;
        target.clear().await;
        (case.run)(Ground { source, target }).await;
    });
}

/// Ends all servers.
pub fn strike() {
    let stands = std::mem::take(&mut *STANDS.lock().unwrap());
    // Their processes are children of the runtime.
    let _within = RUNTIME.enter();
    drop(stands);
}
