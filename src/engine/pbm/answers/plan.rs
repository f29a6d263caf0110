//! What `pbm delete-backup`, `delete-pitr` and `cleanup` would delete (`--dry-run`): PBM says it as text only.

use crate::engine::pbm::output::Answer;

/// What would be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletePlan {
    pub backups: Vec<PlannedBackup>,
    pub chunks: Vec<PlannedChunks>,
    /// Lines that are not understood. A plan that has some must not be carried out as if it were known.
    pub unread: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBackup {
    pub name: String,
    /// What PBM says about it: size, type, restore time.
    pub about: String,
}

/// Recorded oplog of a replica set, times as PBM writes them (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedChunks {
    pub replica_set: String,
    pub start: String,
    pub end: String,
}

const WAITING: &str = "Waiting for delete to be done";

impl DeletePlan {
    pub fn is_empty(&self) -> bool {
        self.backups.is_empty() && self.chunks.is_empty() && self.unread.is_empty()
    }

    /// From the text before the JSON of an answer.
    pub fn of(answer: &Answer) -> Self {
        let mut plan = Self::default();
        let mut set = None;
        for line in answer.before.lines().filter(|line| !line.trim().is_empty()) {
            let trimmed = line.trim();
            match trimmed {
                "Snapshots:" | "PITR chunks (by replset name):" => set = None,
                _ if trimmed.starts_with(WAITING) => {}
                _ if trimmed.starts_with("- ") => match plan.entry(&trimmed[2..], set) {
                    Some(()) => {}
                    None => plan.unread.push(line.to_owned()),
                },
                _ => match trimmed.strip_suffix(':') {
                    Some(name) if !name.contains(' ') => set = Some(name),
                    _ => plan.unread.push(line.to_owned()),
                },
            }
        }
        plan
    }

    fn entry(&mut self, entry: &str, set: Option<&str>) -> Option<()> {
        if let Some(rest) = entry.strip_prefix('"') {
            let (name, about) = rest.split_once('"')?;
            let about = about.trim().trim_start_matches('[').trim_end_matches(']');
            self.backups.push(PlannedBackup { name: name.to_owned(), about: about.to_owned() });
        } else {
            let (start, end) = entry.split_once(" - ")?;
            let (start, end) = (start.to_owned(), end.to_owned());
            self.chunks.push(PlannedChunks { replica_set: set?.to_owned(), start, end });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::raw;

    #[test]
    fn a_plan_is_read_from_its_text() {
        let plan = DeletePlan::of(&raw("cleanup-dry-some"));
        let names: Vec<&str> = plan.backups.iter().map(|backup| backup.name.as_str()).collect();
        assert_eq!(names, ["2026-11-29T09:45:42Z", "2026-11-29T09:19:46Z", "2026-11-29T09:29:18Z"]);
        assert_eq!(plan.backups[1].about, "size: 54.76KB type: <logical>, restore time: 2026-11-29T09:19:45Z");
        assert_eq!(plan.chunks.len(), 3);
        let cfg = plan.chunks.iter().find(|chunks| chunks.replica_set == "cfg").unwrap();
        assert_eq!((cfg.start.as_str(), cfg.end.as_str()), ("2026-11-29T09:19:45", "2026-11-29T09:24:26"));
        assert_eq!(plan.unread, Vec::<String>::new());
        // After the deletion the same text, and more.
        assert_eq!(DeletePlan::of(&raw("cleanup-wait")), plan);
        assert_eq!(DeletePlan::of(&raw("delete-backup")).backups.len(), 1);
        assert!(DeletePlan::of(&raw("cleanup-dry")).is_empty());
    }

    #[test]
    fn what_is_not_understood_is_not_left_out() {
        let answer = Answer { value: serde_json::Value::Null, before: "Snapshots:\n - x\nAnd all of sh1\n".into() };
        assert_eq!(DeletePlan::of(&answer).unread, [" - x", "And all of sh1"]);
    }
}
