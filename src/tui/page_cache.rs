//! What was read for a page and is kept for a while: the logs and manifests of the last few. Each can be large, and can
//! be read again.

use std::collections::VecDeque;

use super::model::{LOG_LINES, Load, Model, Target};
use crate::client::Contents;
use crate::domain::job::LogLine;

/// How many logs and manifests are kept.
const FEW: usize = 8;
/// How many samples of its throughput are kept of a job.
const SAMPLES: usize = 240;

impl Model {
    /// Notes how fast the jobs that run are; of those that have ended nothing is kept.
    pub(super) fn take_rates(&mut self) {
        let running: Vec<(i64, u64)> = self.running_jobs().map(|j| (j.id, j.progress.bytes_per_second)).collect();
        self.rates.retain(|id, _| running.iter().any(|(job, _)| job == id));
        for (id, rate) in running {
            let samples = self.rates.entry(id).or_default();
            samples.push_back(rate);
            if samples.len() > SAMPLES {
                samples.pop_front();
            }
        }
    }

    /// Takes in more lines of a job's log.
    pub(super) fn take_log(&mut self, job: i64, lines: Vec<LogLine>) {
        let watched = self.watched_job();
        let log = self.logs.entry(job).or_default();
        let last = log.back().map_or(i64::MIN, |l| l.seq);
        log.extend(lines.into_iter().filter(|l| l.seq > last));
        while log.len() > LOG_LINES {
            log.pop_front();
        }
        self.log_order.retain(|id| *id != job);
        self.log_order.push_back(job);
        drop_oldest(&mut self.log_order, |id| Some(*id) == watched, |id| drop(self.logs.remove(id)));
    }

    pub(super) fn take_manifest(&mut self, backup: String, manifest: Load<Contents>) {
        let shown = self.target();
        self.manifest_order.retain(|name| *name != backup);
        self.manifest_order.push_back(backup.clone());
        self.manifests.insert(backup, manifest);
        let is_shown = |name: &String| matches!(&shown, Some(Target::Backup(of)) if of == name);
        drop_oldest(&mut self.manifest_order, is_shown, |name| drop(self.manifests.remove(name)));
    }
}

/// Drops what came first until few are left; what is on the screen stays.
fn drop_oldest<K>(order: &mut VecDeque<K>, is_shown: impl Fn(&K) -> bool, mut remove: impl FnMut(&K)) {
    while order.len() > FEW {
        let Some(key) = order.iter().position(|key| !is_shown(key)).and_then(|at| order.remove(at)) else { return };
        remove(&key);
    }
}
