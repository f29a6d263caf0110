//! What a person changed about looks and keys in files of their own.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::form::Purpose;
use super::forms;
use super::keymap::Keymap;
use super::model::{Layer, Level, Model, THEME};
use super::theme::{MONO, Themes};
use crate::config::Home;
use crate::domain::text::escape;

/// A theme or keymap is a few hundred lines.
const LARGEST: u64 = 1 << 20;

/// Themes and keys, and what is wrong with the files they come from.
pub struct Customs {
    pub themes: Themes,
    pub keymap: Keymap,
    /// A sentence each.
    pub problems: Vec<String>,
}

/// Reads the files beside the settings; one that is not there changes nothing.
pub fn read_customs(home: &Home) -> Customs {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    match theme_names(&home.themes_folder()) {
        Ok(names) => {
            for name in names {
                match read_small(&home.themes_folder().join(format!("{name}.toml"))) {
                    Ok(Some(text)) => files.push((name, text)),
                    Ok(None) => {}
                    Err(why) => problems.push(format!("theme {}: {why}", escape(&name))),
                }
            }
        }
        Err(why) => problems.push(why),
    }
    let (themes, wrong) = Themes::with(&files);
    problems.extend(wrong);
    let path = home.keymap_file();
    let refused = |why: String| format!("{}: {why}; the usual keys work", path.display());
    let keymap = match read_small(&path) {
        Ok(None) => Keymap::builtin(),
        Ok(Some(text)) => Keymap::with(&text).unwrap_or_else(|wrong| {
            problems.extend(wrong.into_iter().map(refused));
            Keymap::builtin()
        }),
        Err(why) => {
            problems.push(refused(why));
            Keymap::builtin()
        }
    };
    Customs { themes, keymap, problems }
}

/// In their order.
fn theme_names(folder: &Path) -> Result<Vec<String>, String> {
    let fail = |e: std::io::Error| format!("reading {}: {e}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn read_small(path: &Path) -> Result<Option<String>, String> {
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
        Ok(facts) if !facts.is_file() => return Err("is no file".into()),
        Ok(facts) if facts.len() > LARGEST => return Err("is too large".into()),
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(|e| e.to_string())
}

impl Model {
    /// Takes the themes and keys of a person, and says what is wrong with them.
    pub fn take_customs(&mut self, customs: Result<Customs, String>) {
        let problems = match customs {
            Ok(Customs { themes, keymap, problems }) => {
                (self.themes, self.keymap) = (themes, keymap);
                problems
            }
            Err(why) => vec![why],
        };
        if let Some(name) = self.forced_theme.clone().filter(|name| self.themes.get(name).is_none()) {
            self.emit(Level::Warn, self.no_theme(&name), None);
        }
        for problem in problems {
            self.emit(Level::Warn, problem, Some("it counts from the next start of the screen on".into()));
        }
        self.choose_theme();
    }

    /// That there is no theme called `name`, and which there are.
    pub fn no_theme(&self, name: &str) -> String {
        let names: Vec<&str> = self.themes.names().collect();
        format!("there is no theme {}, only {}", escape(name), escape(&names.join(", ")))
    }

    /// `NO_COLOR` wins over what is just being chosen, that over the command line, and that over the setting. An unknown
    /// name gives the dark one.
    pub fn choose_theme(&mut self) {
        let chosen = self.layers.iter().rev().find_map(|layer| match layer {
            Layer::Form(form) => match &form.purpose {
                Purpose::Setting(key) if key == THEME => Some(forms::setting_value(form, THEME)),
                _ => None,
            },
            _ => None,
        });
        let name = match (self.look.no_color, chosen) {
            (true, _) => MONO,
            (false, Some(chosen)) => chosen,
            (false, None) => self.forced_theme.as_deref().unwrap_or_else(|| self.setting(THEME)),
        };
        let theme = self.themes.get(name).or_else(|| self.themes.get(""));
        if let Some(theme) = theme.filter(|theme| **theme != self.theme) {
            self.theme = theme.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::action::Action;

    #[test]
    fn files_beside_the_settings_change_looks_and_keys() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        let customs = read_customs(&home);
        assert!(customs.problems.is_empty() && customs.keymap == Keymap::builtin());
        fs::create_dir_all(home.themes_folder()).unwrap();
        fs::write(home.themes_folder().join("mine.toml"), "base = 'light'").unwrap();
        fs::write(home.themes_folder().join("wrong.toml"), "ok = 1").unwrap();
        fs::write(home.themes_folder().join("notes.txt"), "ok = 1").unwrap();
        fs::write(home.keymap_file(), "[list]\nup = ['z', 'Up']").unwrap();
        let customs = read_customs(&home);
        assert_eq!(customs.themes.get("mine"), customs.themes.get("light"));
        assert_eq!(customs.keymap.all(Action::Up), "z Up");
        assert!(customs.problems.len() == 1 && customs.problems[0].contains("theme wrong"), "{:?}", customs.problems);
        fs::write(home.keymap_file(), "[list]\nup = ['j']").unwrap();
        let customs = read_customs(&home);
        assert_eq!(customs.keymap, Keymap::builtin());
        let said = customs.problems.last().unwrap();
        assert!(
            said.contains("keymap.toml") && said.contains("up in [list]") && said.contains("down in [list]"),
            "{said}"
        );
    }
}
