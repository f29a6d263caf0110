//! The schedule `line`, by which PBM records the oplog of `src`.

use serde_json::Value;

use crate::support::agents::Agents;
use crate::support::program::Home;

/// Adds it.
pub const LINE: [&str; 11] =
    ["schedule", "add", "line", "--service", "src", "--storage", "local", "--cron", "@yearly", "--type", "pitr"];

pub fn status(home: &Home) -> Value {
    home.ok(&["pitr", "status", "--service", "src"])[0].clone()
}

/// Whether PBM is switched on.
pub fn is_on(agents: &Agents) -> bool {
    agents.pbm(&["config"])["pitr"]["enabled"] == true
}

/// Makes a base, and returns the name of the backup.
pub fn base(home: &Home) -> String {
    let job = home.ok(&["schedule", "run", "line"])["id"].as_i64().unwrap();
    home.ok(&["job", "wait", &job.to_string()]);
    home.job(job)["backup"].as_str().unwrap().to_owned()
}
