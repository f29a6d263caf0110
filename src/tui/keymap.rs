//! Which key does what, read from a keymap file.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::{Action, Group};
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
            _ => Err(format!("{text:?} is not a key")),
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

/// Chords by action. Within one group a chord means one action; [`Keymap::parse`] refuses anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    chords: BTreeMap<Action, Vec<Chord>>,
}

impl Keymap {
    /// Reads a keymap file: one table for each group, in it lists of chords by action.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Invalid, format!("keymap: {why}")).hint("compare it with the keymap that comes along")
        };
        let tables: BTreeMap<String, BTreeMap<String, Vec<String>>> =
            toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let mut chords = BTreeMap::new();
        let mut taken: HashMap<(Group, Chord), Action> = HashMap::new();
        for (section, entries) in tables {
            for (name, texts) in entries {
                let action = Action::ALL
                    .iter()
                    .copied()
                    .find(|a| a.name() == name && a.group().name() == section)
                    .ok_or_else(|| wrong(format!("there is no action {name} in [{section}]")))?;
                let mut list = Vec::new();
                for text in texts {
                    let chord: Chord = text.parse().map_err(wrong)?;
                    if let Some(other) = taken.insert((action.group(), chord), action) {
                        return Err(wrong(format!("{chord} means both {} and {name}", other.name())));
                    }
                    list.push(chord);
                }
                chords.insert(action, list);
            }
        }
        Ok(Self { chords })
    }

    /// The keymap that comes with the program.
    pub fn builtin() -> Self {
        Self::parse(DEFAULT).unwrap_or(Self { chords: BTreeMap::new() })
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
        self.chords(action).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
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
}
