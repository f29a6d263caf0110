//! A command line without a shell: words, and quotes around those that hold spaces. Nothing is expanded.

/// What a service manager tells the daemon in its environment, and is not for what the daemon starts.
pub const OF_THE_SERVICE_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The words of `text` as a POSIX shell reads them, of which nothing is expanded: quotes keep words together, a backslash
/// takes its meaning from the character after it.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    shell_words::split(text).map_err(|_| "a quote is not closed".to_owned())
}

/// A word as a shell reads it back. `shell_words::quote` puts quotes around `a=b` and `7,2` too, which need none.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { shell_words::quote(word).into_owned() }
}

/// The groups of commands that work on a home.
const OF_A_HOME: [&str; 9] =
    ["service", "storage", "backup", "restore", "schedule", "pitr", "job", "daemon", "settings"];

/// `text` with the commands of this program that it names as they have to be typed for another home than the usual one:
/// `mongokeep --home DIR job list`. Without a home the text stays as it is.
pub fn in_home(text: &str, home: Option<&str>) -> String {
    const PROGRAM: &str = "mongokeep ";
    let Some(home) = home.filter(|_| !text.contains("--home")) else { return text.to_owned() };
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(PROGRAM) {
        let (before, after) = rest.split_at(at + PROGRAM.len());
        out.push_str(before);
        let group: &str = after.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if OF_A_HOME.contains(&group) {
            out.push_str(&format!("--home {} ", quoted(home)));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Checks the command of a setting: a program by its absolute path, and its arguments.
pub fn check(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("cannot contain control characters".into());
    }
    match words(text)?.first() {
        Some(program) if program.starts_with('/') => Ok(()),
        _ => Err("begins with the absolute path of a program; no shell reads it".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_another_home_name_it() {
        let at = |text: &str| in_home(text, Some("/srv/a b"));
        assert_eq!(
            at("wait with mongokeep job wait 4, or end it with mongokeep job cancel 4"),
            "wait with mongokeep --home '/srv/a b' job wait 4, or end it with mongokeep --home '/srv/a b' job cancel 4"
        );
        let prose = "only mongokeep restores it, below /var/backups/mongokeep";
        assert_eq!(at(prose), prose);
        let named = "mongokeep restore b --to s --home /x --yes";
        assert_eq!(at(named), named);
        assert_eq!(in_home("mongokeep job list", None), "mongokeep job list");
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(" /bin/a  'b c' d\"e f\"g ''").unwrap(), ["/bin/a", "b c", "de fg", ""]);
        assert_eq!(words("/bin/a $HOME *;rm").unwrap(), ["/bin/a", "$HOME", "*;rm"]);
        assert!(words("/bin/a 'b").is_err());
        for word in ["a", "a b", "it's", "$HOME", "", "a\\b"] {
            assert_eq!(words(&quoted(word)).unwrap(), [word]);
        }
        assert!(check("/usr/bin/alert --team ops").is_ok());
        for bad in ["alert", "", "'", "/bin/a\n/bin/b"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
