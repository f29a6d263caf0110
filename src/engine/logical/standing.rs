//! How far each namespace of a restore is, so that one that fails can say exactly what state the target is in.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
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

/// The namespaces of a restore and their stages.
pub(super) struct Standing {
    stages: Mutex<BTreeMap<Namespace, Stage>>,
}

impl Standing {
    pub fn new(namespaces: impl Iterator<Item = Namespace>) -> Self {
        Self { stages: Mutex::new(namespaces.map(|ns| (ns, Stage::Untouched)).collect()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Namespace, Stage>> {
        self.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn set(&self, ns: &Namespace, stage: Stage) {
        self.lock().insert(ns.clone(), stage);
    }

    fn with(&self, stage: Stage) -> Vec<String> {
        self.lock().iter().filter(|(_, s)| **s == stage).map(|(ns, _)| escape(&ns.to_string())).collect()
    }

    /// One line for each stage that occurs, every namespace named: for the log.
    pub fn lines(&self) -> Vec<String> {
        [(Stage::Partial, "incomplete"), (Stage::Complete, "complete"), (Stage::Untouched, "as before")]
            .into_iter()
            .filter_map(|(stage, word)| {
                let names = self.with(stage);
                (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")))
            })
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
            "the target is not complete. Incomplete: {incomplete}. Complete: {complete}. As before: {untouched}. \
             Restore again to replace what is incomplete"
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
        let standing = Standing::new(names.iter().cloned());
        let fail = || Error::new(ErrorKind::Failed, "x");
        assert_eq!(standing.describe(fail()).hint_text(), Some("nothing was written to the target"));
        names[..10].iter().for_each(|ns| standing.set(ns, Stage::Partial));
        standing.set(&names[10], Stage::Complete);
        let error = standing.describe(fail());
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("d.c07 and 2 more") && hint.contains("Complete: 1. As before: 1."), "{hint}");
        assert_eq!(standing.lines()[1..], ["complete: d.c10", "as before: d.c11"]);
    }
}
