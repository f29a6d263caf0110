//! Real agents of Percona Backup for MongoDB beside the members of a replica set.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use serde_json::Value;

use super::program::{Home, fill, until};
use super::tools::Pbm;

/// Agents at any servers.
pub struct RunningAgents {
    programs: Pbm,
}

/// Agents, which end when this is dropped.
pub struct Running(Vec<Child>);

impl RunningAgents {
    /// `None` without the programs, after a line that says so.
    pub async fn new() -> Option<Self> {
        Some(Self { programs: tokio::task::spawn_blocking(Pbm::find).await.unwrap()? })
    }

    /// The path of `pbm`.
    pub fn program(&self) -> String {
        self.programs.pbm().get_program().to_str().unwrap().to_owned()
    }

    /// One at each of `addresses`.
    pub fn start(&self, addresses: impl IntoIterator<Item = String>) -> Running {
        Running(addresses.into_iter().map(|address| spawn(&self.programs, &address, &[])).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for agent in &mut self.0 {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn spawn(programs: &Pbm, address: &str, environment: &[(&'static str, String)]) -> Child {
    let mut agent = programs.agent();
    agent.envs(environment.iter().map(|(name, value)| (*name, value)));
    agent.env("PBM_MONGODB_URI", format!("mongodb://{address}/"));
    // A variable of the machine for other programs keeps PBM from its S3.
    agent.env_remove("AWS_CA_BUNDLE");
    agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    agent.spawn().unwrap()
}

/// A replica set with an agent at every member, and the programs. The agents end when this is dropped.
pub struct Agents {
    pub set: ReplicaSet,
    programs: Pbm,
    running: Vec<Child>,
    environment: Vec<(&'static str, String)>,
}

impl Agents {
    /// `None` without the programs, after a line that says so.
    pub async fn start(members: usize) -> Option<Self> {
        Self::at(ReplicaSetOptions::default().members(members)).await
    }

    /// The same of any replica set.
    pub async fn at(options: ReplicaSetOptions) -> Option<Self> {
        Self::with(options, Vec::new()).await
    }

    /// The same, with agents, and homes of theirs, that have `environment` besides.
    pub async fn with(options: ReplicaSetOptions, environment: Vec<(&'static str, String)>) -> Option<Self> {
        let programs = tokio::task::spawn_blocking(Pbm::find).await.unwrap()?;
        let set = ReplicaSet::start(&super::mongod().await, options).await.unwrap();
        let mut agents = Self { set, programs, running: Vec::new(), environment };
        for address in agents.set.addresses().to_vec() {
            agents.start_agent(&address);
        }
        Some(agents)
    }

    /// At the member `address`.
    pub fn start_agent(&mut self, address: &str) {
        self.running.push(spawn(&self.programs, address, &self.environment));
    }

    pub fn kill_agents(&mut self) {
        for mut agent in self.running.drain(..) {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// Runs `pbm` as somebody else would.
    pub fn pbm(&self, args: &[&str]) -> Value {
        let output = self.ask(args);
        assert!(output.status.success(), "pbm {args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The path of `pbm`.
    pub fn program(&self) -> String {
        self.programs.pbm().get_program().to_str().unwrap().to_owned()
    }

    /// What `pbm` says when it refuses.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.ask(args);
        assert!(!output.status.success(), "pbm {args:?}: {output:?}");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    fn ask(&self, args: &[&str]) -> std::process::Output {
        let mut pbm = self.programs.pbm();
        pbm.env("PBM_MONGODB_URI", self.set.uri()).args(args).args(["-o", "json"]).stdin(Stdio::null());
        pbm.output().unwrap()
    }

    /// A home with the service `src`, which is PBM's, and the storage `local`.
    pub fn home(&self) -> Home {
        let home = Home::with(self.environment.clone());
        home.add_service("src", &self.set.uri());
        home.ok(&["service", "edit", "src", "--engine", "pbm"]);
        home.ok(&["settings", "set", "pbm.path", &self.program()]);
        std::fs::create_dir_all(home.storage()).unwrap();
        home.add_storage("local");
        home
    }

    /// Such a home, with a configuration of PBM and agents that see its storage.
    pub fn ready_home(&self) -> Home {
        let home = self.home();
        home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
        self.are_seen();
        home
    }

    /// Such a home, and the job of a backup `b` that PBM has begun and takes a while for.
    pub async fn backup_under_way(&self) -> (Home, i64) {
        fill(&self.set, "shop", 60_000).await;
        let home = self.ready_home();
        let create = ["backup", "create", "--service", "src", "--storage", "local", "--name", "b"];
        let id = home.ok(&create)["id"].as_i64().unwrap();
        until("PBM has begun", || home.run(&["job", "log", &id.to_string()]).stdout.contains("PBM calls it"));
        (home, id)
    }

    /// Waits until PBM knows an agent at every member, which needs a configuration.
    pub fn are_seen(&self) {
        let began = Instant::now();
        loop {
            let status: Value =
                serde_json::from_slice(&self.ask(&["status", "-s", "cluster"]).stdout).unwrap_or_default();
            let nodes: Vec<&Value> = status["cluster"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|set| set["nodes"].as_array())
                .flatten()
                .collect();
            if nodes.len() == self.set.addresses().len() && nodes.iter().all(|node| node["ok"] == true) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(240), "no agents: {status}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.kill_agents();
    }
}
