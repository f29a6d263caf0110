//! The plan of a repair in words, a line for each thing that goes.

use super::storage_check::RepairPlan;
use super::text::{bytes, counted, escape};

impl RepairPlan {
    /// What is removed, safe to show, the lines of each sort together; none where nothing is.
    pub fn lines(&self) -> Vec<Vec<String>> {
        let place = |folder: &str, name: &str| match folder {
            "" => escape(name),
            folder => format!("{}/{}", escape(folder), escape(name)),
        };
        let attempts = self.attempts.iter().map(|attempt| {
            let (at, objects) = (place(&attempt.folder, &attempt.backup), counted(attempt.objects, "object"));
            format!("{at}: all that the attempt left, {objects}, {}", bytes(attempt.bytes))
        });
        let orphans = self.orphans.iter().map(|orphans| {
            let size = orphans.objects.iter().map(|object| object.size).fold(0, u64::saturating_add);
            let (at, objects) =
                (place(&orphans.folder, &orphans.backup), counted(orphans.objects.len() as u64, "object"));
            format!("{at}: {objects} that its manifest does not name, {}", bytes(size))
        });
        let uploads = self.uploads.iter().map(|uploads| {
            let at = if uploads.prefix.is_empty() { "the storage".to_owned() } else { escape(&uploads.prefix) };
            format!("{at}: {}, {}", counted(uploads.uploads, "unfinished upload"), bytes(uploads.bytes))
        });
        let blocks = self.blocks.iter().map(|blocks| {
            let (at, many) = (place(&blocks.folder, "blocks"), counted(blocks.blocks, "block"));
            format!("{at}: {many} that no backup needs, {}", bytes(blocks.bytes))
        });
        let sorts: [Vec<String>; 4] = [attempts.collect(), orphans.collect(), uploads.collect(), blocks.collect()];
        sorts.into_iter().filter(|lines| !lines.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::storage_check::{PlannedAttempt, PlannedBlocks, PlannedObject, PlannedOrphans, PlannedUploads};
    use super::*;

    #[test]
    fn each_thing_that_goes_is_named_with_its_bytes() {
        let attempt = PlannedAttempt {
            folder: "prod".into(),
            backup: "a\u{1b}".into(),
            attempt_id: "x".into(),
            objects: 1,
            bytes: 1_000,
        };
        let orphan = PlannedOrphans {
            folder: String::new(),
            backup: "b".into(),
            attempt_id: "y".into(),
            objects: vec![
                PlannedObject { path: "data/x".into(), size: 10 },
                PlannedObject { path: "y".into(), size: 5 },
            ],
        };
        let uploads = PlannedUploads { prefix: "prod/backups/b".into(), backup: None, uploads: 2, bytes: 0 };
        let blocks = PlannedBlocks { folder: "prod".into(), blocks: 1, bytes: 7 };
        let plan = RepairPlan {
            attempts: vec![attempt],
            orphans: vec![orphan],
            uploads: vec![uploads],
            blocks: vec![blocks],
            ..RepairPlan::default()
        };
        assert_eq!(
            plan.lines().concat(),
            [
                "prod/a\\u{1b}: all that the attempt left, 1 object, 1.0 kB",
                "b: 2 objects that its manifest does not name, 15 B",
                "prod/backups/b: 2 unfinished uploads, 0 B",
                "prod/blocks: 1 block that no backup needs, 7 B",
            ]
        );
        assert!(RepairPlan::default().lines().is_empty());
    }
}
