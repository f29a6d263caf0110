//! Encryption by the server with a key of ours (SSE-C): it keeps no key, so that it wants it with every request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::domain::secret::Secret;
use crate::error::{Error, Result};

/// The flag that it is given with.
const FLAG: &str = "sse-c-key-file";
const BYTES: usize = 32;

/// A key of a customer, or none.
#[derive(Debug, Clone, Default)]
pub(super) struct CustomerKey(Option<Key>);

#[derive(Debug, Clone)]
struct Key {
    /// In base64, as it is sent.
    text: Secret,
    md5: String,
}

impl CustomerKey {
    /// Errors: `Invalid`, which shows nothing of it.
    pub(super) fn of(given: Option<&Secret>) -> Result<Self> {
        let Some(given) = given else { return Ok(Self::default()) };
        let wrong = || Error::invalid(FLAG, "holds no key: 32 bytes in base64, as openssl rand -base64 32 makes one");
        let text = given.expose().trim();
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| wrong())?);
        if bytes.len() != BYTES {
            return Err(wrong());
        }
        Ok(Self(Some(Key { text: Secret::new(text), md5: STANDARD.encode(Md5::digest(&*bytes)) })))
    }

    pub(super) fn algorithm(&self) -> Option<String> {
        self.0.as_ref().map(|_| "AES256".to_owned())
    }

    pub(super) fn key(&self) -> Option<String> {
        self.0.as_ref().map(|key| key.text.expose().to_owned())
    }

    pub(super) fn md5(&self) -> Option<String> {
        self.0.as_ref().map(|key| key.md5.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_and_is_not_shown() {
        let text = STANDARD.encode([7; BYTES]);
        let key = CustomerKey::of(Some(&Secret::new(format!("{text}\n")))).unwrap();
        assert_eq!((key.algorithm().unwrap(), key.key().unwrap()), ("AES256".to_owned(), text.clone()));
        assert_eq!(key.md5().unwrap(), STANDARD.encode(Md5::digest([7; BYTES])));
        assert!(!format!("{key:?}").contains(&text));
        for bad in [String::new(), "hunter2!".into(), STANDARD.encode([7; 31]), STANDARD.encode([7; 33])] {
            let error = CustomerKey::of(Some(&Secret::new(bad.clone()))).unwrap_err();
            assert_eq!(error.field(), Some("sse_c_key_file"));
            assert!(bad.is_empty() || !error.full().contains(&bad), "{error}");
        }
        assert_eq!(CustomerKey::of(None).unwrap().key(), None);
    }
}
