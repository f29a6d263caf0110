//! How far each namespace of a restore is, so that one that fails can say exactly what state the target is in.

use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::SecondsFormat;

use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// As it was before the restore.
    Untouched,
    /// Dropped or created, and not complete.
    Partial,
    /// Documents, options and indexes as in the backup.
    Complete,
}

/// How far the changes after the documents' own moments are in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replayed {
    /// Documents of different moments, or none yet.
    Nothing,
    /// Every change before this position; later ones perhaps.
    Before(Timestamp),
    /// Every change up to and including this position.
    All(Timestamp),
}

/// The namespaces of a restore and their stages.
pub(super) struct RestoreState {
    stages: Mutex<BTreeMap<Namespace, Stage>>,
    replayed: Mutex<Replayed>,
}

impl RestoreState {
    pub fn new(namespaces: impl Iterator<Item = Namespace>) -> Self {
        let stages = namespaces.map(|ns| (ns, Stage::Untouched)).collect();
        Self { stages: Mutex::new(stages), replayed: Mutex::new(Replayed::Nothing) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Namespace, Stage>> {
        self.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn set(&self, ns: &Namespace, stage: Stage) {
        self.lock().insert(ns.clone(), stage);
    }

    pub fn set_replayed(&self, replayed: Replayed) {
        *self.replayed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = replayed;
    }

    /// What the documents of the target are worth, as a sentence.
    fn moment(&self) -> String {
        let second = |ts: Timestamp| ts.to_datetime().to_rfc3339_opts(SecondsFormat::Secs, true);
        match *self.replayed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Replayed::Nothing => "its documents are of no single moment, because the oplog was not replayed".into(),
            Replayed::Before(ts) => {
                format!("it has every change before oplog position {ts} ({}), perhaps some later ones", second(ts))
            }
            Replayed::All(ts) if ts.i == u32::MAX => format!("it has every change up to {}", ts.in_words()),
            Replayed::All(ts) => format!("it has every change up to oplog position {ts} ({})", second(ts)),
        }
    }

    fn with(&self, stage: Stage) -> Vec<String> {
        self.lock().iter().filter(|(_, s)| **s == stage).map(|(ns, _)| escape(&ns.to_string())).collect()
    }

    /// One line for each stage that occurs, every namespace named: for the log.
    pub fn lines(&self) -> Vec<String> {
        [(Stage::Partial, "incomplete"), (Stage::Complete, "complete"), (Stage::Untouched, "unchanged")]
            .into_iter()
            .filter_map(|(stage, word)| {
                let names = self.with(stage);
                (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")))
            })
            .chain((!self.with(Stage::Partial).is_empty()).then(|| format!("the target: {}", self.moment())))
            .collect()
    }

    /// Adds to `error` what the target looks like now.
    pub fn describe(&self, error: Error) -> Error {
        let partial = self.with(Stage::Partial);
        let (complete, untouched) = (self.with(Stage::Complete).len(), self.with(Stage::Untouched).len());
        if partial.is_empty() && complete == 0 {
            return error.hint("nothing was written to the target");
        }
        const SHOWN: usize = 8;
        let mut names = partial.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if partial.len() > SHOWN {
            names.push_str(&format!(" and {} more (the log names all)", partial.len() - SHOWN));
        }
        let incomplete = if partial.is_empty() { "none".to_owned() } else { names };
        error.hint(format!(
            "the target is not complete: {}. Incomplete: {incomplete}. Complete: {complete}. As before: {untouched}. \
             Restore again to replace what is incomplete",
            self.moment()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_failure_names_the_state_of_the_target() {
        let names: Vec<Namespace> = (0..12).map(|n| Namespace::new("d", format!("c{n:02}"))).collect();
        let standing = RestoreState::new(names.iter().cloned());
        let fail = || Error::new(ErrorKind::Failed, "x");
        assert_eq!(standing.describe(fail()).hint_text(), Some("nothing was written to the target"));
        names[..10].iter().for_each(|ns| standing.set(ns, Stage::Partial));
        standing.set(&names[10], Stage::Complete);
        let error = standing.describe(fail());
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("d.c07 and 2 more") && hint.contains("Complete: 1. As before: 1."), "{hint}");
        assert_eq!(standing.lines()[1..3], ["complete: d.c10", "unchanged: d.c11"]);
        assert!(hint.contains("no single moment") && standing.lines()[3].contains("no single moment"), "{hint}");
        for (replayed, says) in [
            (Replayed::Before(Timestamp::new(1_790_000_000, 7)), "before oplog position 1790000000,7 (2026-09-21T"),
            (Replayed::All(Timestamp::new(1_790_000_000, 7)), "up to oplog position 1790000000,7 (2026-09-21T"),
        ] {
            standing.set_replayed(replayed);
            let error = standing.describe(fail());
            assert!(error.hint_text().unwrap().contains(says), "{error}");
        }
    }
}
