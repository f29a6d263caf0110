//! What is seen of an operation of PBM, as the progress and the log of a job.

use std::sync::Arc;

use super::answers::{LogEntry, Status};
use super::follow::Watcher;
use super::operation::OperationState;
use crate::domain::job::LogLevel;
use crate::domain::text::escape;
use crate::engine::Meter;

/// Tells a job.
pub struct OnMeter {
    meter: Arc<Meter>,
    told: u64,
    last: Option<Vec<(String, Status)>>,
}

impl OnMeter {
    pub fn new(meter: &Arc<Meter>) -> Self {
        Self { meter: Arc::clone(meter), told: 0, last: None }
    }
}

impl Watcher for OnMeter {
    fn progress(&mut self, state: &OperationState) {
        let sets: Vec<(String, Status)> =
            state.replica_sets.iter().map(|set| (escape(&set.name), set.status.clone())).collect();
        // What all are at is said once.
        let phase = match sets.split_first() {
            Some(((_, first), rest)) if rest.iter().any(|(_, status)| status != first) => {
                sets.iter().map(|(name, status)| format!("{name} {status}")).collect::<Vec<_>>().join(" · ")
            }
            _ => state.status.to_string(),
        };
        self.meter.set_phase(format!("PBM: {phase}"));
        if let Some(bytes) = state.bytes {
            self.meter.add_bytes(bytes.saturating_sub(self.told));
            self.told = self.told.max(bytes);
        }
        if self.last.as_ref() != Some(&sets) {
            for set in &state.replica_sets {
                let was = self.last.iter().flatten().find(|(name, _)| *name == escape(&set.name));
                if was.is_none_or(|(_, status)| *status != set.status) {
                    let nodes: Vec<String> = set.nodes.iter().map(|node| escape(&node.name)).collect();
                    let at = if nodes.is_empty() { String::new() } else { format!(" ({})", nodes.join(", ")) };
                    self.meter.info(format!("{}{at}: {}", escape(&set.name), set.status));
                }
            }
            self.last = Some(sets);
        }
    }

    fn log(&mut self, entry: &LogEntry) {
        let line = format!("pbm-agent {}/{}: {}", entry.rs, entry.node, entry.msg);
        match entry.level() {
            LogLevel::Info => self.meter.info(line),
            LogLevel::Warn | LogLevel::Error => self.meter.warn(line),
        }
    }

    fn trouble(&mut self, text: &str) {
        self.meter.warn(text.to_owned());
    }
}
