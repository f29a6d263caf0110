//! Semantic colours: the views name what a thing means, a theme file says how that looks.
//!
//! A person's own themes are files too, beside the settings. One changes what it names of the theme that it is based on.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use crate::domain::text::escape;

/// The themes that come with the program, by name. `mono` has attributes only and stands in under `NO_COLOR`.
pub const THEMES: [(&str, &str); 4] = [
    ("dark", include_str!("../../assets/themes/dark.toml")),
    ("light", include_str!("../../assets/themes/light.toml")),
    ("colour-blind", include_str!("../../assets/themes/colour-blind.toml")),
    (MONO, include_str!("../../assets/themes/mono.toml")),
];
pub const MONO: &str = "mono";
/// What the setting says where nobody chose, and what that means.
const DEFAULT: (&str, &str) = ("default", "dark");
/// The key of a theme file that names the theme it changes.
const BASE: &str = "base";

macro_rules! theme {
    ($($name:ident),* $(,)?) => {
        /// One style for each meaning.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Theme {
            $(pub $name: Style,)*
        }

        impl Theme {
            fn style_mut(&mut self, name: &str) -> Option<&mut Style> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }

            /// Every meaning with its style.
            pub fn all(&self) -> Vec<(&'static str, Style)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

theme!(
    text,
    dim,
    title,
    accent,
    border,
    selected,
    selected_idle,
    selected_danger,
    tab_active,
    ok,
    warn,
    error,
    running,
    key,
    command,
    disabled,
    input,
    input_focused,
    button,
    button_focused,
    danger_focused,
    tip,
    banner,
    bar_done,
    bar_todo,
);

/// The themes there are: those of the program, then a person's own by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Themes(Vec<(String, Theme)>);

impl Themes {
    /// With the themes in `files` (name without the ending, and text), of which one may take the place of a built-in one.
    /// What is wrong with a file is returned as a sentence, and its theme left out.
    pub fn with(files: &[(String, String)]) -> (Self, Vec<String>) {
        let mut themes = Self::default();
        let mut problems = Vec::new();
        for (name, text) in THEMES {
            match themes.parse(text) {
                Ok(theme) => themes.put(name, theme),
                Err(why) => problems.push(format!("theme {name}: {why}")),
            }
        }
        for (name, text) in files {
            match themes.parse(text) {
                // NO_COLOR holds whatever somebody calls mono.
                Ok(_) if name == MONO => problems.push(format!("theme {MONO} cannot be changed: NO_COLOR needs it")),
                Ok(theme) => themes.put(name, theme),
                Err(why) => problems.push(format!("theme {}: {why}", escape(name))),
            }
        }
        (themes, problems)
    }

    fn put(&mut self, name: &str, theme: Theme) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(known) => known.1 = theme,
            None => self.0.push((name.to_owned(), theme)),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// `default` and nothing at all mean the dark one.
    pub fn get(&self, name: &str) -> Option<&Theme> {
        let name = if name.is_empty() || name == DEFAULT.0 { DEFAULT.1 } else { name };
        self.0.iter().find(|(n, _)| n == name).map(|(_, theme)| theme)
    }

    /// Reads a theme file. One without `base` changes the dark theme.
    fn parse(&self, text: &str) -> Result<Theme, String> {
        let table: toml::Table = toml::from_str(text).map_err(|e: toml::de::Error| escape(e.message()))?;
        let mut theme = match table.get(BASE) {
            None => self.get("").cloned().unwrap_or_default(),
            Some(base) => {
                let name = base.as_str().unwrap_or_default();
                self.get(name).cloned().ok_or_else(|| format!("there is no theme {} to be its base", escape(name)))?
            }
        };
        for (name, spec) in table.iter().filter(|(name, _)| *name != BASE) {
            let place = theme.style_mut(name).ok_or_else(|| format!("{} is no part of a theme", escape(name)))?;
            let spec: Spec =
                spec.clone().try_into().map_err(|e: toml::de::Error| format!("{name}: {}", escape(e.message())))?;
            *place = spec.style().map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(theme)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    fg: Option<String>,
    bg: Option<String>,
    #[serde(default)]
    attributes: Vec<String>,
}

impl Spec {
    fn style(&self) -> Result<Style, String> {
        let colour = |text: &String| text.parse::<Color>().map_err(|_| format!("{} is not a colour", escape(text)));
        let mut style = Style::new();
        if let Some(fg) = &self.fg {
            style = style.fg(colour(fg)?);
        }
        if let Some(bg) = &self.bg {
            style = style.bg(colour(bg)?);
        }
        let attributes: BTreeMap<&str, Modifier> = BTreeMap::from([
            ("bold", Modifier::BOLD),
            ("dim", Modifier::DIM),
            ("italic", Modifier::ITALIC),
            ("underlined", Modifier::UNDERLINED),
            ("reversed", Modifier::REVERSED),
        ]);
        for attribute in &self.attributes {
            let known = attributes.get(attribute.as_str());
            style = style.add_modifier(*known.ok_or_else(|| format!("{} is not an attribute", escape(attribute)))?);
        }
        Ok(style)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builtin() -> Themes {
        let (themes, problems) = Themes::with(&[]);
        assert_eq!(problems, Vec::<String>::new());
        themes
    }

    #[test]
    fn every_theme_is_whole_and_shows_the_selection() {
        for (name, text) in THEMES {
            let table: toml::Table = toml::from_str(text).unwrap();
            let themes = builtin();
            let theme = themes.get(name).unwrap();
            for (part, _) in theme.all() {
                assert!(table.contains_key(part), "{name} lacks {part}");
            }
            assert_ne!(theme.selected, theme.text, "{name}");
            assert_ne!(theme.button_focused, theme.button, "{name}");
            assert_ne!(theme.input_focused, theme.input, "{name}");
            let meanings = [theme.ok, theme.warn, theme.error, theme.command];
            for (i, one) in meanings.iter().enumerate() {
                assert!(name == MONO || meanings[i + 1..].iter().all(|other| other.fg != one.fg), "{name}");
            }
        }
    }

    #[test]
    fn mono_has_no_colour() {
        for (name, style) in builtin().get(MONO).unwrap().all() {
            assert!(style.fg.is_none() && style.bg.is_none(), "{name}");
        }
    }

    #[test]
    fn a_theme_of_ones_own_changes_what_it_names() {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let (themes, problems) = Themes::with(&[
            file("mine", "base = 'light'\nerror = { fg = '#ff0000', attributes = ['bold'] }"),
            file("loud", "ok = { fg = 'green' }"),
            file("part", "headline = {}"),
            file("colour", "ok = { fg = 'reddish' }"),
            file("key", "ok = { foreground = 'red' }"),
            file("toml", "ok = "),
            file("base", "base = 'nobody'"),
            file("mono", "ok = { fg = 'green' }"),
        ]);
        let light = themes.get("light").unwrap();
        let mine = themes.get("mine").unwrap();
        assert_eq!(mine.error, Style::new().fg(Color::Rgb(255, 0, 0)).add_modifier(Modifier::BOLD));
        assert_eq!(Theme { error: light.error, ..mine.clone() }, *light);
        assert_eq!(themes.get("loud").unwrap().warn, themes.get("default").unwrap().warn);
        assert_eq!(themes.get("nobody"), None);
        let words = [
            "part: headline is no part",
            "colour: ok: reddish is not",
            "key: ok: unknown field",
            "toml: ",
            "nobody",
            "mono",
        ];
        assert_eq!(problems.len(), words.len(), "{problems:?}");
        for (problem, words) in problems.iter().zip(words) {
            assert!(problem.contains(words), "{problem}");
        }
    }

    /// Red, green and blue of a colour of the palette of 256.
    fn rgb(colour: Color) -> [f64; 3] {
        let parts = match colour {
            Color::Indexed(i @ 232..) => [8 + (i - 232) * 10; 3],
            Color::Indexed(i @ 16..) => {
                let level = |n: u8| if n == 0 { 0 } else { 55 + n * 40 };
                [level((i - 16) / 36), level((i - 16) / 6 % 6), level((i - 16) % 6)]
            }
            other => panic!("{other:?} looks different in each terminal"),
        };
        parts.map(|part| f64::from(part) / 255.0)
    }

    fn linear(colour: [f64; 3]) -> [f64; 3] {
        colour.map(|v| if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) })
    }

    /// The contrast of WCAG 2, from 1 to 21.
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let luminance = |c| linear(c).iter().zip([0.2126, 0.7152, 0.0722]).map(|(v, w)| v * w).sum::<f64>();
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn hex(colour: u32) -> [f64; 3] {
        [colour >> 16, colour >> 8, colour].map(|part| f64::from(part & 0xff) / 255.0)
    }

    #[test]
    fn every_text_can_be_read_on_what_is_behind_it() {
        // The backgrounds of widespread terminals: plain, VS Code, One Dark; plain, Solarized.
        let dark = [0x000000, 0x1e1e1e, 0x282c34].map(hex);
        let light = [0xffffff, 0xfdf6e3, 0xffffff].map(hex);
        for (name, grounds, plain) in
            [("dark", dark, 0xd0d0d0), ("light", light, 0x303030), ("colour-blind", dark, 0xd0d0d0)]
        {
            let themes = builtin();
            let theme = themes.get(name).unwrap();
            let in_a_row = [theme.text, theme.dim, theme.ok, theme.warn, theme.error, theme.running, theme.accent];
            let selections = [theme.selected, theme.selected_danger].map(|s| rgb(s.bg.unwrap()));
            for style in in_a_row {
                let fg = style.fg.map_or(hex(plain), rgb);
                for ground in grounds.iter().chain(&selections) {
                    let ratio = contrast(fg, *ground);
                    assert!(ratio >= 4.5, "{name}: {style:?} on {ground:?} has {ratio:.1}");
                }
            }
            for (part, style) in theme.all() {
                let least = match part {
                    // Lines, and what does not apply: seen, not read.
                    "border" | "bar_todo" => 1.5,
                    "disabled" => 3.0,
                    _ => 4.5,
                };
                let Some(fg) = style.fg.map(rgb) else { continue };
                let own = style.bg.map(rgb);
                for ground in own.map_or(grounds.to_vec(), |own| vec![own]) {
                    let ratio = contrast(fg, ground);
                    assert!(ratio >= least, "{name}: {part} on {ground:?} has {ratio:.1}, needs {least}");
                }
            }
        }
    }

    /// How a colour looks to somebody without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1).
    fn seen_without(kind: &str, colour: [f64; 3]) -> [f64; 3] {
        let matrix = match kind {
            "red" => {
                [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
            }
            "green" => {
                [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
            }
            _ => [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
        };
        let c = linear(colour);
        matrix.map(|row| row.iter().zip(c).map(|(m, v)| m * v).sum::<f64>().clamp(0.0, 1.0))
    }

    #[test]
    fn the_colour_blind_theme_tells_states_apart_for_everybody() {
        let themes = builtin();
        // CIE 1976: 10 is seen at once; neighbours on the screen need more.
        let lab = |c: [f64; 3]| {
            let f = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
            let x = f((0.4124 * c[0] + 0.3576 * c[1] + 0.1805 * c[2]) / 0.95047);
            let y = f(0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]);
            let z = f((0.0193 * c[0] + 0.1192 * c[1] + 0.9505 * c[2]) / 1.08883);
            [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
        };
        let least = |theme: &Theme, kind: &str| {
            let all = [theme.ok, theme.warn, theme.error].map(|s| lab(seen_without(kind, rgb(s.fg.unwrap()))));
            let far = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            far(all[0], all[1]).min(far(all[1], all[2])).min(far(all[0], all[2]))
        };
        for kind in ["red", "green", "blue"] {
            let apart = least(themes.get("colour-blind").unwrap(), kind);
            assert!(apart > 25.0, "without {kind}: {apart:.0}");
        }
        // What it is there for.
        let usual = ["red", "green", "blue"].map(|kind| least(themes.get("dark").unwrap(), kind));
        assert!(usual.iter().any(|apart| *apart < 25.0), "{usual:?}");
    }
}
