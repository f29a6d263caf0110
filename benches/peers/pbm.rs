//! Percona Backup for MongoDB: an agent beside one replica set, and commands.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use mongokeep::sandbox::{ReplicaSet, Scratch};

use crate::stage::{json, wait};
use crate::{measure, tools};

pub struct Pbm<'a> {
    programs: &'a tools::Pbm,
    uri: String,
    agent: Child,
}

impl<'a> Pbm<'a> {
    /// Starts an agent for `set`, with a storage at `folder`, and returns when it takes commands.
    pub fn start(programs: &'a tools::Pbm, set: &ReplicaSet, folder: &Path, scratch: &Scratch) -> Self {
        let uri = format!("mongodb://{}/", set.addresses()[0]);
        std::fs::create_dir_all(folder).unwrap();
        let name = set.addresses()[0].replace(':', "-");
        // In the scratch folder, so that its command line names it: what is registered goes with the folder.
        let log = scratch.path().join(format!("pbm-agent-{name}.log"));
        let mut command = programs.agent();
        command.args(["--mongodb-uri", &uri, "--log-path"]).arg(&log);
        let agent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        scratch.register(agent.id()).unwrap();
        let pbm = Self { programs, uri, agent };
        let config = scratch.path().join(format!("pbm-{name}.yaml"));
        let text = format!("storage:\n  type: filesystem\n  filesystem:\n    path: {}\n", folder.display());
        std::fs::write(&config, text).unwrap();
        // Refused until the agent has said that it is there.
        wait("pbm-agent", || {
            let mut command = pbm.command(&["config", "--wait", "--file"]);
            command.arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
        pbm.json(&["config", "--force-resync", "--wait"]);
        wait("pbm-agent", || pbm.json(&["status"])["cluster"][0]["nodes"][0]["ok"] == true && pbm.is_idle());
        pbm
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.programs.pbm();
        command.args(["--mongodb-uri", &self.uri]).args(args);
        command
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut command = self.command(args);
        command.args(["-o", "json"]);
        json(command)
    }

    /// It refuses what comes before it has put the last thing away.
    pub fn is_idle(&self) -> bool {
        self.json(&["status"])["running"].as_object().is_none_or(serde_json::Map::is_empty)
    }

    pub fn settle(&self) {
        wait("pbm to be idle", || self.is_idle());
    }

    /// The name of the newest backup.
    pub fn newest(&self) -> String {
        let list = self.json(&["list"]);
        let names = list["snapshots"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str());
        names.max().unwrap().to_owned()
    }

    /// Has it follow the oplog, and returns when it does.
    pub fn record(&self) {
        self.json(&["config", "--set", "pitr.enabled=true", "--set", "pitr.oplogSpanMin=0.1"]);
        wait("pbm to record the oplog", || self.json(&["status"])["pitr"]["run"] == true);
    }

    /// Waits until second `t` is recorded completely, and has it stop.
    pub fn end_recording(&self, t: u32) {
        wait("pbm to have recorded the oplog", || {
            let list = self.json(&["list"]);
            let ranges = list["pitr"]["ranges"].as_array().cloned().unwrap_or_default();
            ranges.iter().any(|r| r["range"]["end"].as_u64().is_some_and(|end| end > u64::from(t)))
        });
        self.json(&["config", "--set", "pitr.enabled=false"]);
        wait("pbm to stop recording", || self.json(&["status"])["pitr"]["run"] == false);
        self.settle();
    }

    /// Ends the agent and returns how many bytes of memory it had at its peak.
    pub fn stop(mut self) -> u64 {
        let peak = measure::peak_of(self.agent.id());
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        peak
    }
}
