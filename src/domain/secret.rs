//! Values that must not be printed.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A secret text (a connection string, a key). `Debug` and `Display` show `***`; only [`Secret::expose`] gives it.
/// Its memory is wiped when dropped. It serialises in the clear: only the store's encryption may serialise it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::new)
    }
}

/// A connection string with everything secret taken out: user name kept, password and secret options as `***`.
pub fn redact_uri(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return "***".into() };
    // A password may hold an unescaped '@' or '/', so the last '@' before the options ends the credentials.
    let (before_options, options) = match rest.split_once('?') {
        Some((a, b)) => (a, Some(b)),
        None => (rest, None),
    };
    if options.is_some_and(|o| o.contains('@')) {
        // An unescaped '?' in the password: nobody can say where it ends.
        return format!("{}://***", super::text::escape(scheme));
    }
    let (credentials, hosts) = match before_options.rsplit_once('@') {
        Some((c, h)) => (Some(c), h),
        None => (None, before_options),
    };
    let mut out = format!("{scheme}://");
    if let Some(credentials) = credentials {
        match credentials.split_once(':') {
            Some((user, _)) => out.push_str(&format!("{user}:***@")),
            None => out.push_str(&format!("{credentials}@")),
        }
    }
    out.push_str(hosts);
    if let Some(options) = options {
        let shown: Vec<String> = options
            .split('&')
            .map(|option| match option.split_once('=') {
                Some((key, _)) if is_secret_option(key) => format!("{key}=***"),
                _ => option.to_owned(),
            })
            .collect();
        out.push('?');
        out.push_str(&shown.join("&"));
    }
    super::text::escape(&out)
}

fn is_secret_option(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.contains("password") || key.contains("token") || key.contains("secret") || key == "authmechanismproperties"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn connection_strings_lose_their_secrets() {
        let cases = [
            ("mongodb://a:hunter2@h:1,i:2/db?replicaSet=rs", "mongodb://a:***@h:1,i:2/db?replicaSet=rs"),
            ("mongodb+srv://a:hun@ter2@h/?x=1", "mongodb+srv://a:***@h/?x=1"),
            ("mongodb://a:hun/ter2@h", "mongodb://a:***@h"),
            ("mongodb://h/?tlsCertificateKeyFilePassword=hunter2", "mongodb://h/?tlsCertificateKeyFilePassword=***"),
            (
                "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
                "mongodb://h/?authMechanismProperties=***",
            ),
            ("mongodb://u:p?hunter2@h/", "mongodb://***"),
            ("hunter2", "***"),
        ];
        for (uri, shown) in cases {
            let got = redact_uri(uri);
            assert!(!got.contains("hunter2"), "{got}");
            assert_eq!(got, shown);
        }
    }
}
