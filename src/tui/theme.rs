//! Semantic colours: the views name what a thing means, a theme file says how that looks.

use ratatui::style::{Color, Modifier, Style};
use serde::{Deserialize, Deserializer};

/// The themes that come with the program, by name. `mono` has attributes only and stands in under `NO_COLOR`.
pub const THEMES: [(&str, &str); 3] = [
    ("dark", include_str!("../../assets/themes/dark.toml")),
    ("light", include_str!("../../assets/themes/light.toml")),
    ("mono", include_str!("../../assets/themes/mono.toml")),
];

macro_rules! theme {
    ($($name:ident),* $(,)?) => {
        /// One style for each meaning.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Theme {
            $(#[serde(deserialize_with = "style")] pub $name: Style,)*
        }

        #[cfg(test)]
        impl Theme {
            fn all(&self) -> Vec<(&'static str, Style)> {
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
    tab_active,
    ok,
    warn,
    error,
    running,
    key,
    disabled,
    input,
    input_focused,
    button,
    button_focused,
    danger_focused,
    toast,
    banner,
    bar_done,
    bar_todo,
);

impl Theme {
    /// The theme called `name`; an unknown name gives the dark one.
    pub fn named(name: &str) -> Self {
        let find = |name: &str| THEMES.iter().find(|(n, _)| *n == name).and_then(|(_, text)| toml::from_str(text).ok());
        find(name).or_else(|| find("dark")).unwrap_or_default()
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

fn style<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Style, D::Error> {
    use serde::de::Error;
    let spec = Spec::deserialize(deserializer)?;
    let colour = |text: &String| text.parse::<Color>().map_err(|_| D::Error::custom(format!("{text} is not a colour")));
    let mut style = Style::new();
    if let Some(fg) = &spec.fg {
        style = style.fg(colour(fg)?);
    }
    if let Some(bg) = &spec.bg {
        style = style.bg(colour(bg)?);
    }
    for attribute in &spec.attributes {
        style = style.add_modifier(match attribute.as_str() {
            "bold" => Modifier::BOLD,
            "dim" => Modifier::DIM,
            "italic" => Modifier::ITALIC,
            "underlined" => Modifier::UNDERLINED,
            "reversed" => Modifier::REVERSED,
            other => return Err(D::Error::custom(format!("{other} is not an attribute"))),
        });
    }
    Ok(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_theme_parses_and_shows_the_selection() {
        for (name, text) in THEMES {
            let theme: Theme = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_ne!(theme.selected, theme.text, "{name}");
            assert_ne!(theme.button_focused, theme.button, "{name}");
            assert_ne!(theme.input_focused, theme.input, "{name}");
        }
    }

    #[test]
    fn mono_has_no_colour() {
        for (name, style) in Theme::named("mono").all() {
            assert!(style.fg.is_none() && style.bg.is_none(), "{name}");
        }
    }
}
