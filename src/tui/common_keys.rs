//! Keys that mean one thing on several screens, where each acts on what its screen lists: the help says them once.

use super::action::Action;
use super::keymap::{Chord, Keymap};

/// One meaning: its verb, and what it is done to by the action of each screen.
struct Meaning {
    verb: &'static str,
    of: &'static [(Action, &'static str)],
}

// Short enough for one line of the help on 80 columns.
const MEANINGS: &[Meaning] = &[
    Meaning {
        verb: "New",
        of: &[
            (Action::CreateBackup, "backup"),
            (Action::CreateSchedule, "schedule"),
            (Action::AddStorage, "storage location"),
            (Action::AddService, "service"),
        ],
    },
    Meaning {
        verb: "Edit the selected",
        of: &[
            (Action::EditSchedule, "schedule"),
            (Action::EditStorage, "storage"),
            (Action::EditService, "service"),
            (Action::EditSetting, "setting"),
        ],
    },
    Meaning { verb: "Restore the selected", of: &[(Action::Restore, "backup"), (Action::RestoreService, "service")] },
    Meaning {
        verb: "Retry",
        of: &[(Action::RetryJob, "the failed job"), (Action::RetryRun, "the last run of the schedule")],
    },
    // Of a schedule the backups stay: its question says so.
    Meaning {
        verb: "Delete the selected",
        of: &[(Action::DeleteBackup, "backup"), (Action::RemoveSchedule, "schedule")],
    },
    Meaning {
        verb: "Remove from the list the selected",
        of: &[(Action::RemoveStorage, "storage"), (Action::RemoveService, "service")],
    },
    Meaning {
        verb: "Copy",
        of: &[
            (Action::CopyName, "the name"),
            (Action::CopyScheduleName, "the name"),
            (Action::CopyService, "the name"),
            (Action::CopyRemedy, "the remedy"),
            (Action::CopyStorage, "where the storage is"),
        ],
    },
];

/// Keys with the same meaning for the same actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonKeys {
    pub chords: Vec<Chord>,
    pub actions: Vec<Action>,
    /// `Edit the selected schedule, storage, service or setting`.
    pub text: String,
}

impl CommonKeys {
    /// Whether `chord` is said here for `action`.
    pub fn has(&self, action: Action, chord: Chord) -> bool {
        self.actions.contains(&action) && self.chords.contains(&chord)
    }
}

/// The keys that have one meaning for two actions or more. Only those actions count that are shown, and only the keys
/// that the keymap gives them: an action that somebody gave a key of its own is not among them.
pub fn common_keys(keymap: &Keymap, is_shown: impl Fn(Action) -> bool) -> Vec<CommonKeys> {
    let mut out = Vec::new();
    for meaning in MEANINGS {
        let shown: Vec<(Action, &str)> = meaning.of.iter().copied().filter(|(action, _)| is_shown(*action)).collect();
        let mut seen: Vec<Chord> = Vec::new();
        let from = out.len();
        for chord in shown.iter().flat_map(|(action, _)| keymap.chords(*action)) {
            if seen.contains(chord) {
                continue;
            }
            seen.push(*chord);
            let having = shown.iter().filter(|(action, _)| keymap.chords(*action).contains(chord));
            let (actions, objects): (Vec<Action>, Vec<&str>) = having.copied().unzip();
            if actions.len() < 2 {
                continue;
            }
            match out[from..].iter_mut().find(|known: &&mut CommonKeys| known.actions == actions) {
                Some(known) => known.chords.push(*chord),
                None => {
                    let text = format!("{} {}", meaning.verb, either(objects));
                    out.push(CommonKeys { chords: vec![*chord], actions, text });
                }
            }
        }
    }
    out
}

/// `a, b or c`, each once.
fn either(mut objects: Vec<&str>) -> String {
    objects.dedup();
    match &objects[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::keymap::words;

    fn texts(keymap: &Keymap) -> Vec<(String, String)> {
        let rows = common_keys(keymap, |_| true).into_iter();
        rows.map(|row| (words(&row.chords), row.text)).collect()
    }

    #[test]
    fn a_key_of_one_meaning_is_one_row() {
        let all = texts(&Keymap::builtin());
        let keys: Vec<&str> = all.iter().map(|(keys, _)| keys.as_str()).collect();
        assert_eq!(keys, ["n", "e", "r", "R", "d", "d", "y"]);
        assert_eq!(all[0].1, "New backup, schedule, storage location or service");
    }

    #[test]
    fn a_key_of_ones_own_stands_apart() {
        let own = "[storage]\nadd_storage = ['a', 'A']\n[services]\nadd_service = ['a', 'A', 'n']";
        let all = texts(&Keymap::with(own).unwrap());
        let create = [
            ("n".to_owned(), "New backup, schedule or service".to_owned()),
            ("a A".to_owned(), "New storage location or service".to_owned()),
        ];
        assert_eq!(all[..2], create);
        let row = &common_keys(&Keymap::builtin(), |action| action != Action::EditSetting)[1];
        assert!(row.has(Action::EditService, "e".parse().unwrap()) && !row.text.contains("setting"), "{row:?}");
        assert!(!row.has(Action::EditSetting, "e".parse().unwrap()));
    }
}
