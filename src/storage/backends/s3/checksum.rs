//! The checksums that go with what is written, and what the server says of them.
//!
//! The SDK would add its own without declaring them when a multipart upload begins, and a strict server (versitygw, and
//! Amazon by what others report) then refuses the finished upload. So its own are off, and each request says here what it
//! carries. Every body is signed too, with its SHA-256, whatever is chosen here.

use std::ffi::OsString;

use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::types::ChecksumAlgorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use super::config::Checksums;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};

const REQUEST_VARIABLE: &str = "AWS_REQUEST_CHECKSUM_CALCULATION";
const RESPONSE_VARIABLE: &str = "AWS_RESPONSE_CHECKSUM_VALIDATION";

/// What goes with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Crc32,
    Md5,
    None,
}

/// What is sent, and whether checksums are asked for when objects are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) proof: Proof,
    pub(super) validation: ResponseChecksumValidation,
}

/// What the environment says of both, in the words that all tools of AWS know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) request: Option<RequestChecksumCalculation>,
    pub(super) response: Option<ResponseChecksumValidation>,
}

impl Environment {
    /// Errors: `Invalid` for a word that is neither of the two, where the SDK would go on with its default.
    pub(super) fn read() -> Result<Self> {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        fn parsed<T: std::str::FromStr>(name: &str, value: Option<OsString>) -> Result<Option<T>> {
            let Some(value) = value.filter(|v| !v.is_empty()) else { return Ok(None) };
            let word = value.to_string_lossy();
            word.parse().map(Some).map_err(|_| {
                let shown = text::quoted(&word);
                Error::new(ErrorKind::Invalid, format!("{name}: {shown} is neither when_supported nor when_required"))
                    .hint("correct the variable, or remove it, where the daemon and this program are started")
            })
        }
        Ok(Self {
            request: parsed(REQUEST_VARIABLE, variable(REQUEST_VARIABLE))?,
            response: parsed(RESPONSE_VARIABLE, variable(RESPONSE_VARIABLE))?,
        })
    }
}

impl Mode {
    /// A person's own word counts more than the environment. Who sends none, or MD5, has a server that refuses the newer
    /// headers, of which one asks for checksums in answers.
    pub(super) fn new(wanted: Checksums, environment: Environment) -> Self {
        let refused = ResponseChecksumValidation::WhenRequired;
        let told = environment.response.unwrap_or_default();
        match wanted {
            Checksums::Auto if environment.request == Some(RequestChecksumCalculation::WhenRequired) => {
                Self { proof: Proof::None, validation: told }
            }
            Checksums::Auto | Checksums::Crc32 => Self { proof: Proof::Crc32, validation: told },
            Checksums::Md5 => Self { proof: Proof::Md5, validation: refused },
            Checksums::None => Self { proof: Proof::None, validation: refused },
        }
    }
}

impl Proof {
    /// What an upload in parts declares at its beginning.
    pub(super) fn algorithm(self) -> Option<ChecksumAlgorithm> {
        match self {
            Self::Crc32 => Some(ChecksumAlgorithm::Crc32),
            Self::Md5 | Self::None => None,
        }
    }

    pub(super) fn of(self, body: &[u8]) -> Sums {
        match self {
            Self::Crc32 => Sums { crc32: Some(crc32fast::hash(body)), md5: None },
            Self::Md5 => Sums { crc32: None, md5: Some(BASE64.encode(Md5::digest(body))) },
            Self::None => Sums { crc32: None, md5: None },
        }
    }
}

/// The checksums of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    crc32: Option<u32>,
    md5: Option<String>,
}

impl Sums {
    /// As `x-amz-checksum-crc32` wants it.
    pub(super) fn crc32(&self) -> Option<String> {
        self.crc32.map(encoded)
    }

    /// As `Content-MD5` wants it.
    pub(super) fn md5(&self) -> Option<String> {
        self.md5.clone()
    }

    pub(super) fn of_part(&self, length: usize) -> Option<PartSum> {
        self.crc32.map(|crc32| PartSum { crc32, length: length as u64 })
    }
}

/// The CRC32 of a part, and its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartSum {
    crc32: u32,
    length: u64,
}

/// Whether what the server says of an object in parts agrees with what was sent: the checksum of the whole, or, with the
/// number of parts behind it, the checksum of their checksums. A form that is neither is not judged.
pub(super) fn agrees(told: &str, parts: &[PartSum]) -> bool {
    let (sum, expected) = match told.split_once('-') {
        Some((sum, _)) => {
            let mut all = crc32fast::Hasher::new();
            parts.iter().for_each(|part| all.update(&part.crc32.to_be_bytes()));
            (sum, all.finalize())
        }
        None => {
            let mut all = crc32fast::Hasher::new();
            let hasher = |part: &PartSum| crc32fast::Hasher::new_with_initial_len(part.crc32, part.length);
            parts.iter().for_each(|part| all.combine(&hasher(part)));
            (told, all.finalize())
        }
    };
    let is_crc32 = BASE64.decode(sum).is_ok_and(|bytes| bytes.len() == 4);
    !is_crc32 || sum == encoded(expected)
}

fn encoded(crc32: u32) -> String {
    BASE64.encode(crc32.to_be_bytes())
}

/// The server says that it holds something else than it was sent. What can be sent again is `Transient`.
pub(super) fn differs(what: &str, kind: ErrorKind) -> Error {
    Error::new(kind, format!("{what}: the server says by its checksum that it holds other bytes"))
        .hint("something between here and the storage changes objects; do not keep backups there before it is found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_heard_and_a_setting_counts_more() {
        let of = |request: &str, response: &str| {
            Environment::of(|name| Some(if name == REQUEST_VARIABLE { request } else { response }.into()))
        };
        let nothing = of("", "").unwrap();
        assert_eq!(nothing, Environment::default());
        let sparing = of("WHEN_REQUIRED", "when_required").unwrap();
        let lavish = of("when_supported", "when_supported").unwrap();
        let mode = |wanted, environment| {
            let mode = Mode::new(wanted, environment);
            (mode.proof, mode.validation == ResponseChecksumValidation::WhenSupported)
        };
        assert_eq!(mode(Checksums::Auto, nothing), (Proof::Crc32, true));
        assert_eq!(mode(Checksums::Auto, lavish), (Proof::Crc32, true));
        assert_eq!(mode(Checksums::Auto, sparing), (Proof::None, false));
        assert_eq!(mode(Checksums::Crc32, sparing), (Proof::Crc32, false));
        assert_eq!(mode(Checksums::Md5, lavish), (Proof::Md5, false));
        assert_eq!(mode(Checksums::None, lavish), (Proof::None, false));
        for (request, response, named) in [("never", "", REQUEST_VARIABLE), ("", "when required", RESPONSE_VARIABLE)] {
            let error = of(request, response).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.full().starts_with(named), "{error}");
        }
    }

    #[test]
    fn what_a_server_says_of_an_object_in_parts_is_compared() {
        let (one, two) = (b"a first part".as_slice(), b"and the last".as_slice());
        let sums: Vec<_> = [one, two].iter().map(|p| Proof::Crc32.of(p).of_part(p.len()).unwrap()).collect();
        let whole = encoded(crc32fast::hash(&[one, two].concat()));
        let inner: Vec<u8> = [one, two].iter().flat_map(|p| crc32fast::hash(p).to_be_bytes()).collect();
        let composite = format!("{}-2", encoded(crc32fast::hash(&inner)));
        assert!(agrees(&whole, &sums) && agrees(&composite, &sums));
        assert!(!agrees(&encoded(1), &sums) && !agrees(&format!("{}-2", encoded(1)), &sums));
        assert!(agrees("not a checksum", &sums) && agrees("", &sums), "what is no CRC32 is not judged");
    }
}
