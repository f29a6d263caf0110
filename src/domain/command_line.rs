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
