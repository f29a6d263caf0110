//! `pbm logs`.

use serde::Deserialize;

use super::lenient::{Moment, null_is_default};
use crate::domain::job::LogLevel;

/// A line that an agent logged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LogEntry {
    pub ts: Moment,
    /// 0 fatal, 1 error, 2 warning, 3 info, 4 debug.
    #[serde(rename = "s")]
    pub severity: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub rs: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub node: String,
    /// The kind of operation, and its object.
    #[serde(default, rename = "e", deserialize_with = "null_is_default")]
    pub event: String,
    #[serde(default, rename = "eobj", deserialize_with = "null_is_default")]
    pub object: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub opid: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub msg: String,
}

impl LogEntry {
    /// The level of a job's log. A severity that is not known is not made light of.
    pub fn level(&self) -> LogLevel {
        match self.severity {
            0 | 1 => LogLevel::Error,
            3 | 4 => LogLevel::Info,
            _ => LogLevel::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::answer;

    #[test]
    fn lines_are_read() {
        let lines: Vec<LogEntry> = answer("logs-default");
        let first = &lines[0];
        assert_eq!((first.rs.as_str(), first.event.as_str(), first.level()), ("cfg", "backup", LogLevel::Info));
        assert_eq!(first.object, "2026-11-29T09:19:46Z");
        let lines: Vec<LogEntry> = answer("agentdead-restore-logs");
        assert!(lines[0].level() == LogLevel::Error && lines[0].msg.contains("converge timeout"));
        assert!(answer::<Vec<LogEntry>>("noconf-noagent-logs").is_empty());
    }
}
