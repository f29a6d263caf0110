//! Secrets from files and standard input, which unlike arguments nobody sees in the process list.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};

use crate::error::{Error, Result};

/// No connection string or key is longer.
const LIMIT: u64 = 64 << 10;

/// The text of `path`, or of standard input for `-`, without the line end. `flag` names it in errors.
pub fn read(flag: &str, path: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let result = if path == "-" {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            super::output::stderr(&format!("{flag}: type or paste it, then press Enter"));
            stdin.lock().take(LIMIT + 1).read_until(b'\n', &mut bytes)
        } else {
            stdin.lock().take(LIMIT + 1).read_to_end(&mut bytes)
        }
    } else {
        File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
    };
    let name = match path {
        "-" => "standard input",
        // What is no file may be the secret itself, typed where the name of its file belongs.
        _ if std::fs::symlink_metadata(path).is_err() => {
            let why = result.err().map_or_else(String::new, |e| format!(": {e}"));
            return Err(Error::invalid(flag, format!("there is no file of that name{why}"))
                .hint("it takes the path of a file that holds the secret, or - for standard input"));
        }
        _ => path,
    };
    result.map_err(|e| Error::invalid(flag, format!("{name}: {e}")))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::invalid(flag, format!("{name} holds more than {} kB", LIMIT >> 10)));
    }
    // Says nothing about the content, which may be a secret in another encoding.
    let text = String::from_utf8(bytes).map_err(|_| Error::invalid(flag, format!("{name} is not UTF-8")))?;
    // Editors of some systems put this mark in front of a text; nobody sees it, and no secret begins with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end_matches(['\n', '\r']);
    let wrong = if text.contains(['\n', '\r']) {
        "holds more than one line; it must be one, without a line break inside or an empty line in front"
    } else if text.starts_with(char::is_whitespace) {
        "begins with a blank, which belongs to no secret; take it away"
    } else if text.ends_with(char::is_whitespace) {
        "ends with a blank, which belongs to no secret; take it away"
    } else {
        return Ok(text.to_owned());
    };
    Err(Error::invalid(flag, format!("{name} {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_a_path_is_not_repeated() {
        let long = "hunter2".repeat(100);
        for typed in ["hunter2/K7MDENG", "/hunter2", long.as_str()] {
            let error = read("secret-access-key-file", typed).unwrap_err();
            assert!(error.full().starts_with("secret-access-key-file: there is no file"), "{error}");
            assert!(!format!("{error:?}{}", error.full()).contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn files_lose_their_last_line_end_and_errors_name_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uri");
        for good in ["mongodb://h\r\n", "mongodb://h\n\n", "\u{feff}mongodb://h\r\n"] {
            std::fs::write(&path, good).unwrap();
            assert_eq!(read("uri-file", path.to_str().unwrap()).unwrap(), "mongodb://h", "{good:?}");
        }
        for (bad, why) in [
            (" hunt", "begins with a blank"),
            ("\u{feff}\thunt", "begins with a blank"),
            ("hunt \n", "ends with a blank"),
            ("hunt\nhunt\n", "more than one line"),
            ("hunt\rhunt", "more than one line"),
            ("\nhunt\n", "more than one line"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = read("uri-file", path.to_str().unwrap()).unwrap_err();
            assert!(error.full().contains(why) && !error.full().contains("hunt"), "{bad:?}: {error}");
            assert_eq!(error.kind().exit_code(), 2);
        }
        std::fs::write(&path, [0xff, b'h', b'u', b'n', b't']).unwrap();
        for bad in [path.to_str().unwrap(), "/nonexistent/x", dir.path().to_str().unwrap(), "/dev/zero"] {
            let error = read("uri-file", bad).unwrap_err();
            assert!(error.full().starts_with("uri-file: ") && !error.full().contains("hunt"), "{error}");
            assert_eq!(error.kind().exit_code(), 2);
        }
    }
}
