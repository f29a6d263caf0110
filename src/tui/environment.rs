//! What the environment of the process says about the screen: signs, colours, zone, and where everything is.

use super::Options;
use super::model::Look;
use crate::client::Client;

/// Where everything is, for the About page.
pub(super) fn about(client: &Client) -> Vec<(String, String)> {
    let home = client.home();
    let path = |label: &str, path: std::path::PathBuf| (label.to_owned(), path.display().to_string());
    vec![
        path("Settings", home.settings_file()),
        path("Keys", home.keymap_file()),
        path("Themes", home.themes_folder()),
        path("Store", home.store_file()),
        path("Daemon's log", home.log_file()),
    ]
}

/// What environment and command line say about looks.
pub(super) fn look(client: &Client, options: &Options) -> Look {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    Look {
        ascii: options.ascii || !locale_is_utf8(|name| std::env::var(name).ok()),
        no_color: set("NO_COLOR"),
        no_motion: options.no_motion || set("NO_MOTION"),
        // The font of its console has no braille.
        no_braille: std::env::var("TERM").is_ok_and(|term| term == "linux"),
        read_only: options.read_only || client.is_read_only(),
    }
}

/// Whether the terminal is at the other end of a network.
pub(super) fn is_remote() -> bool {
    std::env::var_os("SSH_CONNECTION").is_some_and(|v| !v.is_empty())
}

/// The first of these that is set decides, as in every other program; none set is the plain C locale.
fn locale_is_utf8(get: impl Fn(&str) -> Option<String>) -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| get(name).filter(|v| !v.is_empty()));
    value.is_some_and(|v| {
        let v = v.to_ascii_lowercase();
        v.contains("utf-8") || v.contains("utf8")
    })
}

/// The zone of this machine; UTC when it cannot be told.
pub(super) fn zone() -> chrono_tz::Tz {
    let name = iana_time_zone::get_timezone().unwrap_or_default();
    name.parse().unwrap_or(chrono_tz::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides_about_signs() {
        let is = |pairs: &[(&str, &str)]| {
            locale_is_utf8(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert!(is(&[("LANG", "de_DE.UTF-8")]));
        assert!(is(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!is(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!is(&[]));
    }
}
