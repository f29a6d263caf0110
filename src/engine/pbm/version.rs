//! The version of `pbm`, and what it must be at least.

use std::fmt;

use super::output::Output;
use crate::domain::text::quoted;
use crate::error::{Error, ErrorKind, Result};

/// The oldest version that is driven: the first whose answers have the present form.
pub const OLDEST: PbmVersion = PbmVersion { major: 2, minor: 0, patch: 1 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PbmVersion {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for PbmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl PbmVersion {
    /// `2.15.0`, as an agent says it `v2.15.0`, or with a suffix `2.5.0-rc1`. `None`: no version.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+', ' ']).unwrap_or(text.len());
        let mut parts = text[..end].split('.').map(|part| part.parse::<u32>().ok());
        let mut part = || parts.next().flatten();
        let version = Self { major: part()?, minor: part()?, patch: part()? };
        parts.next().is_none().then_some(version)
    }

    /// What `pbm version -o json` says; older versions say it as text.
    ///
    /// Errors: `Unsupported` for one that is too old, naming both; `Failed` when it says no version.
    pub fn of_output(output: &Output) -> Result<Self> {
        let said = match output {
            Output::Answer(answer) => answer.value.get("Version").and_then(|v| v.as_str()).map(str::to_owned),
            Output::Text(text) => {
                text.lines().find_map(|line| line.trim().strip_prefix("Version:")).map(|v| v.trim().to_owned())
            }
            _ => None,
        };
        let none = || Error::new(ErrorKind::Failed, "the program says no version of PBM").hint("is it pbm?");
        let said = said.ok_or_else(none)?;
        let Some(version) = Self::parse(&said) else {
            return Err(Error::new(ErrorKind::Failed, format!("pbm says its version is {}", quoted(&said))));
        };
        version.must_be_new_enough()?;
        Ok(version)
    }

    /// Errors: `Unsupported` for one that is too old, naming both.
    pub fn must_be_new_enough(self) -> Result<()> {
        if self >= OLDEST {
            return Ok(());
        }
        let what = format!("pbm {self} is too old: {OLDEST} or newer is needed");
        Err(Error::new(ErrorKind::Unsupported, what).hint("upgrade PBM on this host and at every node"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::fixture;

    #[test]
    fn versions_are_read_from_json_and_from_text() {
        let expected = PbmVersion { major: 2, minor: 15, patch: 0 };
        for name in ["version", "version-json", "version-short"] {
            assert_eq!(PbmVersion::of_output(&Output::of(fixture(name).as_bytes())).unwrap(), expected, "{name}");
        }
        for (text, parsed) in [("v2.15.0", true), ("2.5.0-rc1", true), ("2.5", false), ("2.5.0.1", false), ("", false)]
        {
            assert_eq!(PbmVersion::parse(text).is_some(), parsed, "{text}");
        }
    }

    #[test]
    fn one_that_is_too_old_is_named_with_what_is_needed() {
        let old = Output::of(br#"{"Version":"2.0.0"}"#);
        let error = PbmVersion::of_output(&old).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.full().contains("2.0.0") && error.full().contains("2.0.1"), "{error}");
        for other in [&b"hello"[..], b"{}", b"{\"Version\":\"next\"}"] {
            assert_eq!(PbmVersion::of_output(&Output::of(other)).unwrap_err().kind(), ErrorKind::Failed);
        }
    }
}
