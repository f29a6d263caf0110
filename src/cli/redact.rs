//! Keeps connection strings that were typed in the wrong place out of what is printed.
//!
//! Parsers repeat what they did not understand. `mongokeep service add mongodb://user:password@host` must not.

use std::ffi::OsString;

use crate::domain::secret::redact_uri;
use crate::domain::text::escape;

/// Texts of the command line that hold secrets, and what is shown for them.
pub struct Redactor(Vec<(String, String)>);

impl Redactor {
    pub fn new(args: &[OsString]) -> Self {
        let mut pairs = Vec::new();
        for arg in args {
            let arg = arg.to_string_lossy();
            let Some(shown) = shown(&arg) else { continue };
            let debug = format!("{arg:?}");
            pairs.push((arg.to_string(), shown.clone()));
            pairs.push((escape(&arg), shown.clone()));
            pairs.push((debug[1..debug.len() - 1].to_owned(), shown));
            // The value alone too: messages about `--flag=VALUE` name either.
            if let Some((flag, value)) = arg.split_once('=')
                && flag.starts_with("--")
                && let Some(shown) = self::shown(value)
            {
                pairs.push((value.to_owned(), shown.clone()));
                pairs.push((escape(value), shown));
            }
        }
        // The longest first, so that a part never hides the whole.
        pairs.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self(pairs)
    }

    pub fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (secret, shown)| text.replace(secret, shown))
    }
}

/// What stands for an argument that may hold a password; none for one that does not.
fn shown(arg: &str) -> Option<String> {
    if let Some((flag, value)) = arg.split_once('=')
        && flag.starts_with("--")
    {
        return shown(value).map(|value| format!("{flag}={value}"));
    }
    if arg.contains("://") {
        return Some(redact_uri(arg)).filter(|redacted| redacted != arg);
    }
    // A connection string without its beginning: `user:password@host`.
    let (credentials, host) = arg.rsplit_once('@')?;
    let (user, _) = credentials.split_once(':')?;
    Some(format!("{}:***@{}", escape(user), escape(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_found_again() {
        let args = ["mongokeep", "mongodb://u:hunter2@h/?a=b", "--x=mongodb://u:hunter2@i", "mongodb://u:hun\tter2@h"];
        let redactor = Redactor::new(&args.map(OsString::from));
        for text in [
            "unexpected 'mongodb://u:hunter2@h/?a=b' found",
            "unexpected '--x=mongodb://u:hunter2@i' found",
            "x: mongodb://u:hunter2@i",
            "no service mongodb://u:hun\\tter2@h",
            "no service mongodb://u:hun\tter2@h",
        ] {
            let shown = redactor.clean(text);
            assert!(!shown.contains("ter2") && shown.contains("u:***@"), "{shown}");
        }
        assert_eq!(redactor.clean("--home /x"), "--home /x");
        let redactor = Redactor::new(&[OsString::from("u:hunter2@h:1")]);
        assert_eq!(redactor.clean("there is no service u:hunter2@h:1"), "there is no service u:***@h:1");
    }
}
