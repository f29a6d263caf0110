//! What `pbm` says, made fit to be shown: short, on one line, without secrets.
//!
//! The driver and the SDKs inside PBM put connection strings into their errors. A text of PBM reaches a log or a screen only
//! through here.

use crate::domain::secret::{Secret, redact_uri};
use crate::domain::text::escape;

/// The longest text of PBM that is shown, in characters.
const SHOWN: usize = 2_000;
/// Shorter secrets would be found in every word.
const SHORTEST: usize = 4;

/// Knows the secrets that `pbm` was given.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
}

impl Redactor {
    /// For what is said by a `pbm` that got `uri`.
    pub fn new(uri: &Secret) -> Self {
        let mut redactor = Self::default();
        let rest = uri.expose().split_once("://").map_or(uri.expose(), |(_, rest)| rest);
        let before_options = rest.split_once('?').map_or(rest, |(before, _)| before);
        let credentials = before_options.rsplit_once('@').map(|(credentials, _)| credentials);
        if let Some((_, password)) = credentials.and_then(|credentials| credentials.split_once(':')) {
            redactor.add(Secret::new(password));
            redactor.add(Secret::new(percent_decoded(password)));
        }
        redactor
    }

    /// Hides `secret` too.
    pub fn add(&mut self, secret: Secret) {
        if secret.expose().len() >= SHORTEST {
            self.secrets.push(secret);
            // A secret that holds another one goes first.
            self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        }
    }

    /// `text` on one line, control characters escaped, secrets as `***`.
    pub fn shown(&self, text: &str) -> String {
        let mut text = hide_uris(text.trim());
        for secret in &self.secrets {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), "***");
            }
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let line = lines.join("; ");
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{} ...", escape(&line[..end])),
            None => escape(&line),
        }
    }
}

/// Every connection string in `text` without its secrets.
fn hide_uris(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("mongodb") {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let is_end = |c: char| c.is_whitespace() || "\"'`,;)>]}".contains(c);
        let scheme = ["mongodb://", "mongodb+srv://"].into_iter().find(|scheme| found.starts_with(scheme));
        let Some(scheme) = scheme else {
            out.push_str("mongodb");
            rest = &found["mongodb".len()..];
            continue;
        };
        // A list of hosts has commas.
        let is_end_of_uri = |c: char| c != ',' && is_end(c);
        let end = found[scheme.len()..].find(is_end_of_uri).map_or(found.len(), |end| scheme.len() + end);
        out.push_str(&redact_uri(&found[..end]));
        rest = &found[end..];
    }
    out.push_str(rest);
    out
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let decoded = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_they_are_written() {
        let mut redactor = Redactor::new(&Secret::new("mongodb://u:hun%40ter2@h:1,i:2/?replicaSet=r"));
        redactor.add(Secret::new("s3-secret"));
        let said = "Error: parse \"mongodb://u:hun%40ter2@h:1,i:2/?tlsCertificateKeyFilePassword=hunter9\": no\n \
                    - with hun@ter2, hun%40ter2 and s3-secret; mongodb is a word\u{1b}[31m";
        let shown = redactor.shown(said);
        for secret in ["hun%40ter2", "hun@ter2", "hunter9", "s3-secret", "\u{1b}", "\n"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert!(
            shown.contains("mongodb://u:***@h:1,i:2/?tls") && shown.ends_with("mongodb is a word\\u{1b}[31m"),
            "{shown}"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let shown = Redactor::default().shown(&"é".repeat(SHOWN + 5));
        assert_eq!(shown.chars().count(), SHOWN + 4);
        assert_eq!(percent_decoded("a%zz%4"), "a%zz%4");
    }
}
