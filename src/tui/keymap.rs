//! Which key does what, read from a keymap file.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::{Action, Group};
use crate::domain::text::{escape, quoted};
use crate::error::{Error, ErrorKind, Result};

/// The keymap that comes with the program.
pub const DEFAULT: &str = include_str!("../../assets/keymap.toml");

/// One key with its modifiers. Shift is part of a character, and kept only for `Shift-Tab`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chord {
    pub code: KeyCode,
    pub ctrl: bool,
    pub alt: bool,
}

impl From<KeyEvent> for Chord {
    fn from(key: KeyEvent) -> Self {
        // Some terminals report Shift-Tab as Tab with the modifier.
        let code = match key.code {
            KeyCode::Tab if key.modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
            code => code,
        };
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let code = match code {
            KeyCode::Char(c) if ctrl => KeyCode::Char(c.to_ascii_lowercase()),
            code => code,
        };
        Self { code, ctrl, alt: key.modifiers.contains(KeyModifiers::ALT) }
    }
}

const NAMED: [(&str, KeyCode); 16] = [
    ("Enter", KeyCode::Enter),
    ("Esc", KeyCode::Esc),
    ("Tab", KeyCode::Tab),
    ("Shift-Tab", KeyCode::BackTab),
    ("Space", KeyCode::Char(' ')),
    ("Up", KeyCode::Up),
    ("Down", KeyCode::Down),
    ("Left", KeyCode::Left),
    ("Right", KeyCode::Right),
    ("Home", KeyCode::Home),
    ("End", KeyCode::End),
    ("PgUp", KeyCode::PageUp),
    ("PgDn", KeyCode::PageDown),
    ("Backspace", KeyCode::Backspace),
    ("Delete", KeyCode::Delete),
    ("F1", KeyCode::F(1)),
];

impl FromStr for Chord {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (rest, ctrl) = text.strip_prefix("Ctrl-").map_or((text, false), |rest| (rest, true));
        let (rest, alt) = rest.strip_prefix("Alt-").map_or((rest, false), |rest| (rest, true));
        if let Some((_, code)) = NAMED.iter().find(|(name, _)| *name == rest) {
            return Ok(Self { code: *code, ctrl, alt });
        }
        let mut chars = rest.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => {
                let c = if ctrl { c.to_ascii_lowercase() } else { c };
                Ok(Self { code: KeyCode::Char(c), ctrl, alt })
            }
            _ => Err(format!("{} is not a key", quoted(text))),
        }
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("Ctrl-")?;
        }
        if self.alt {
            f.write_str("Alt-")?;
        }
        if let Some((name, _)) = NAMED.iter().find(|(_, code)| *code == self.code) {
            return f.write_str(name);
        }
        match self.code {
            KeyCode::Char(c) if self.ctrl => write!(f, "{}", c.to_ascii_uppercase()),
            KeyCode::Char(c) => write!(f, "{c}"),
            other => write!(f, "{other}"),
        }
    }
}

/// Chords by action. Where an action works a chord means that action alone; [`Keymap::parse`] refuses anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    chords: BTreeMap<Action, Vec<Chord>>,
}

/// Without a key for these nobody finds the way out.
const NEEDED: [Action; 3] = [Action::Back, Action::Help, Action::Quit];

impl Keymap {
    /// Reads a keymap file: one table for each group, in it lists of chords by action.
    ///
    /// Errors: `Invalid`, with everything that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keymap = Self { chords: BTreeMap::new() };
        match keymap.read(text) {
            Ok(()) => Ok(keymap),
            Err(problems) => Err(Error::new(ErrorKind::Invalid, format!("keymap: {}", problems.join("; ")))
                .hint("compare it with the keymap that comes along")),
        }
    }

    /// The keymap that comes with the program, with what `text` changes: an action that it names has those chords alone.
    ///
    /// Errors: everything that is wrong with it, a sentence each; then nothing of it is taken.
    pub fn with(text: &str) -> std::result::Result<Self, Vec<String>> {
        let mut keymap = Self::builtin();
        keymap.read(text)?;
        let without = NEEDED.iter().filter(|action| keymap.chords(**action).is_empty());
        let without: Vec<String> = without.map(|action| format!("{} must have a key", action.name())).collect();
        if without.is_empty() { Ok(keymap) } else { Err(without) }
    }

    fn read(&mut self, text: &str) -> std::result::Result<(), Vec<String>> {
        let tables: BTreeMap<String, BTreeMap<String, Vec<String>>> =
            toml::from_str(text).map_err(|e| vec![escape(e.message())])?;
        let mut problems = Vec::new();
        for (section, entries) in tables {
            for (name, texts) in entries {
                let is_meant = |a: &&Action| a.name() == name && a.group().name() == section;
                let Some(action) = Action::ALL.iter().find(is_meant) else {
                    problems.push(format!("there is no action {} in [{}]", escape(&name), escape(&section)));
                    continue;
                };
                let (chords, wrong): (Vec<_>, Vec<_>) = texts.iter().map(|t| t.parse()).partition(|c| c.is_ok());
                problems.extend(wrong.into_iter().filter_map(|c: std::result::Result<Chord, String>| c.err()));
                self.chords.insert(*action, chords.into_iter().flatten().collect());
            }
        }
        problems.extend(self.conflicts());
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Chords that mean two actions where both work, as sentences.
    fn conflicts(&self) -> Vec<String> {
        let all: Vec<(Action, Chord)> =
            self.chords.iter().flat_map(|(action, chords)| chords.iter().map(|c| (*action, *c))).collect();
        let mut out = Vec::new();
        for (i, (one, chord)) in all.iter().enumerate() {
            for (other, _) in all[i + 1..].iter().filter(|(_, c)| c == chord) {
                if one == other {
                    out.push(format!("{chord} is given twice for {}", one.name()));
                } else if meet(one.group(), other.group()) {
                    let of = |a: &Action| format!("{} in [{}] ({})", a.name(), a.group().name(), a.title());
                    out.push(format!("{chord} means both {} and {}", of(one), of(other)));
                }
            }
        }
        out
    }

    /// The keymap that comes with the program.
    pub fn builtin() -> Self {
        Self::parse(DEFAULT).unwrap_or(Self { chords: BTreeMap::new() })
    }

    /// All keys as a page of documentation, in Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        for group in Group::ALL {
            out.push_str(&format!(
                "## {}\n\n| key | action | name in `[{}]` |\n|---|---|---|\n",
                group.title(),
                group.name()
            ));
            for action in Action::ALL.iter().filter(|a| a.group() == group) {
                let keys: Vec<String> = self.chords(*action).iter().map(|c| format!("`{c}`")).collect();
                out.push_str(&format!("| {} | {} | `{}` |\n", keys.join(" "), action.title(), action.name()));
            }
            out.push('\n');
        }
        out
    }

    /// What `chord` means where `groups` are active; the first group that knows it wins.
    pub fn resolve(&self, chord: Chord, groups: &[Group]) -> Option<Action> {
        groups.iter().find_map(|group| {
            self.chords.iter().find(|(a, chords)| a.group() == *group && chords.contains(&chord)).map(|(a, _)| *a)
        })
    }

    /// The keys of an action, in the order of the file.
    pub fn chords(&self, action: Action) -> &[Chord] {
        self.chords.get(&action).map_or(&[], Vec::as_slice)
    }

    /// Its first key, for the line of keys; empty when it has none.
    pub fn first(&self, action: Action) -> String {
        self.chords(action).first().map(ToString::to_string).unwrap_or_default()
    }

    /// All its keys: `k Up`.
    pub fn all(&self, action: Action) -> String {
        words(self.chords(action))
    }
}

/// Several chords, with a space between them.
pub fn words(chords: &[Chord]) -> String {
    chords.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Whether keys of both groups can work at once: those of a page or list do together with what works in every list and
/// everywhere. The timeline of a restore takes its keys before anything else.
fn meet(one: Group, other: Group) -> bool {
    let (one, other) = if one <= other { (one, other) } else { (other, one) };
    let is_wide = matches!(one, Group::Global | Group::List) && other != Group::Moment;
    one == other || is_wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_keymap_reaches_every_action() {
        let keymap = Keymap::parse(DEFAULT).unwrap();
        for action in Action::ALL {
            assert!(!keymap.chords(*action).is_empty(), "{}", action.name());
        }
    }

    #[test]
    fn chords_round_trip() {
        for text in ["a", "G", "?", "Ctrl-P", "Alt-x", "Enter", "Shift-Tab", "Space", "F1", "PgDn", "Ctrl-Left"] {
            assert_eq!(text.parse::<Chord>().unwrap().to_string(), text);
        }
        assert!("Hyper-x".parse::<Chord>().is_err() && "".parse::<Chord>().is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Keymap::parse(text).unwrap_err().to_string();
        assert!(error("[list]\nfly = ['f']").contains("fly"));
        assert!(error("[list]\nup = ['Hyper-x']").contains("Hyper-x"));
        assert!(error("[list]\nup = ['k']\ndown = ['k']").contains("both"));
    }

    #[test]
    fn keys_of_ones_own_take_the_place_of_the_builtin_ones() {
        let keymap = Keymap::with("[list]\nup = ['w', 'Up']\n[schedules]\ntimeline_span = []\n").unwrap();
        assert_eq!((keymap.all(Action::Up), keymap.all(Action::TimelineSpan)), ("w Up".into(), String::new()));
        assert_eq!(keymap.all(Action::Down), Keymap::builtin().all(Action::Down));
        assert_eq!(Keymap::with("").unwrap(), Keymap::builtin());
    }

    #[test]
    fn conflicts_name_both_commands() {
        let wrong = |text: &str| Keymap::with(text).unwrap_err();
        // In one group, with what works in every list, and with what works everywhere.
        for (text, words) in [
            ("[backups]\nverify = ['r']", ["restore in [backups]", "verify in [backups]"]),
            ("[backups]\nverify = ['k']", ["up in [list]", "verify in [backups]"]),
            ("[storage]\nadd_storage = ['q']", ["quit in [global]", "add_storage in [storage]"]),
        ] {
            let problems = wrong(text);
            assert!(problems.len() == 1 && words.iter().all(|w| problems[0].contains(w)), "{problems:?}");
        }
        // All at once; what works in different places is no conflict.
        assert_eq!(wrong("[list]\nup = ['j', 'F77']\nfly = []").len(), 3);
        assert!(Keymap::with("[storage]\nadd_storage = ['a']\n[services]\nadd_service = ['a']").is_ok());
        assert_eq!(wrong("[global]\nquit = []"), ["quit must have a key"]);
        assert_eq!(wrong("[list]\nup = ['Up', 'Up']"), ["Up is given twice for up"]);
    }
}
