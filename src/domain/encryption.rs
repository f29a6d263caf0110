//! Whom the objects of a storage are encrypted to.
//!
//! Recipients are public keys of age (X25519). Whoever writes needs nothing else; what opens an object again, an identity,
//! is never kept here. A passphrase is a recipient like any other: it seals an identity that was made for it, so that
//! objects need not be stretched from a passphrase one by one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::quoted;
use super::words::words;
use crate::error::{Error, ErrorKind, Result};

/// A public key of age: `age1` and 58 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(String);

impl Recipient {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err("is an identity, the secret half; the recipient begins with age1 (age-keygen -y FILE)".into());
        }
        let parsed = age::x25519::Recipient::from_str(text)
            .map_err(|_| format!("{} is no recipient of age, such as age1... of age-keygen (X25519)", quoted(text)))?;
        Ok(Self(parsed.to_string()))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Recipient {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.0
    }
}

/// Whom something is encrypted to, as it says of itself: everybody can read it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// Each of them opens it.
    pub recipients: Vec<Recipient>,
    /// The identity of one of them, sealed with a passphrase: an armored file of age, which `age -d -i` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_identity: Option<String>,
}

impl Encryption {
    /// The recipients in words, each one whole: whoever looks for a key compares it.
    pub fn words(&self) -> String {
        words_of(&self.recipients)
    }
}

/// See [`Encryption::words`].
pub fn words_of(recipients: &[Recipient]) -> String {
    recipients.iter().map(Recipient::as_str).collect::<Vec<_>>().join(", ")
}

words! {
    /// How it is known that what is encrypted can be opened again.
    pub enum Proof {
        /// A test message was decrypted.
        Given => "given",
        /// A person chose to go without.
        Waived => "waived",
    }
}

/// How a storage encrypts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageEncryption {
    /// The recipients that were named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Recipient>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SealedIdentity>,
    /// For the present recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// An identity that a passphrase opens, and the recipient that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedIdentity {
    pub recipient: Recipient,
    /// An armored file of age.
    pub file: String,
}

impl StorageEncryption {
    pub fn is_none(&self) -> bool {
        self.to.is_empty() && self.passphrase.is_none()
    }

    /// What objects are encrypted to that are written now.
    pub fn encryption(&self) -> Encryption {
        let own = self.passphrase.as_ref().map(|sealed| sealed.recipient.clone());
        let mut recipients: Vec<Recipient> = Vec::new();
        for recipient in self.to.iter().cloned().chain(own) {
            if !recipients.contains(&recipient) {
                recipients.push(recipient);
            }
        }
        Encryption { recipients, passphrase_identity: self.passphrase.as_ref().map(|sealed| sealed.file.clone()) }
    }

    /// Errors: `Conflict` while nobody has shown that what `storage` will hold can be opened.
    pub fn must_be_proven(&self, storage: &str) -> Result<()> {
        if self.is_none() || self.proof.is_some() {
            return Ok(());
        }
        let what = format!(
            "storage {storage} encrypts to {}, and nobody has shown an identity that opens it",
            self.encryption().words()
        );
        Err(Error::new(ErrorKind::Conflict, what).hint(format!(
            "prove it with mongokeep storage edit {storage} --identity-file FILE; --no-proof goes without"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    const B: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

    #[test]
    fn only_recipients_are_taken() {
        assert_eq!(A.parse::<Recipient>().unwrap().as_str(), A);
        let identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        let refused = identity.parse::<Recipient>().unwrap_err();
        assert!(refused.contains("secret half") && !refused.contains("GFPYY"), "{refused}");
        for bad in ["", "age1", "ssh-ed25519 AAAA", &A[..60], &A.replace('q', "p")] {
            assert!(bad.parse::<Recipient>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_written_before_a_proof() {
        let mut of = StorageEncryption::default();
        of.must_be_proven("s").unwrap();
        of.to = vec![A.parse().unwrap(), B.parse().unwrap(), A.parse().unwrap()];
        assert_eq!(of.encryption().words(), format!("{A}, {B}"));
        let error = of.must_be_proven("s").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.full().contains(A) && error.hint_text().unwrap().contains("--no-proof"));
        for proof in [Proof::Given, Proof::Waived] {
            of.proof = Some(proof);
            of.must_be_proven("s").unwrap();
        }
    }
}
