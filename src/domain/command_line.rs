//! A command line without a shell: words, and quotes around those that hold spaces. Nothing is expanded.

/// The words of `text`: separated by spaces, `'...'` and `"..."` keep theirs together.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
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
        assert!(check("/usr/bin/alert --team ops").is_ok());
        for bad in ["alert", "", "'", "/bin/a\n/bin/b"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
