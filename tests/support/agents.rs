//! Real agents of Percona Backup for MongoDB beside the members of a replica set.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use serde_json::Value;

use super::program::Home;
use super::tools::Pbm;

/// A replica set with an agent at every member, and the programs. The agents end when this is dropped.
pub struct Agents {
    pub set: ReplicaSet,
    programs: Pbm,
    running: Vec<Child>,
}

impl Agents {
    /// `None` without the programs, after a line that says so.
    pub async fn start(members: usize) -> Option<Self> {
        let programs = tokio::task::spawn_blocking(Pbm::find).await.unwrap()?;
        let set =
            ReplicaSet::start(&super::mongod().await, ReplicaSetOptions::default().members(members)).await.unwrap();
        let mut agents = Self { set, programs, running: Vec::new() };
        for address in agents.set.addresses().to_vec() {
            agents.start_agent(&address);
        }
        Some(agents)
    }

    /// At the member `address`.
    pub fn start_agent(&mut self, address: &str) {
        let mut agent = self.programs.agent();
        agent.env("PBM_MONGODB_URI", format!("mongodb://{address}/"));
        // A variable of the machine for other programs keeps PBM from its S3.
        agent.env_remove("AWS_CA_BUNDLE");
        agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push(agent.spawn().unwrap());
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

    fn ask(&self, args: &[&str]) -> std::process::Output {
        let mut pbm = self.programs.pbm();
        pbm.env("PBM_MONGODB_URI", self.set.uri()).args(args).args(["-o", "json"]).stdin(Stdio::null());
        pbm.output().unwrap()
    }

    /// A home with the service `src`, which is PBM's, and the storage `local`.
    pub fn home(&self) -> Home {
        let home = Home::new();
        home.add_service("src", &self.set.uri());
        home.ok(&["service", "edit", "src", "--engine", "pbm"]);
        let program = self.programs.pbm().get_program().to_str().unwrap().to_owned();
        home.ok(&["settings", "set", "pbm.path", &program]);
        std::fs::create_dir_all(home.storage()).unwrap();
        home.add_storage("local");
        home
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
            assert!(began.elapsed() < Duration::from_secs(60), "no agents: {status}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.kill_agents();
    }
}
