//! The names of blocks.
//!
//! That of a plain block is the BLAKE3 of its contents. That of an encrypted one must tell nothing of them, not even that
//! they are what somebody guesses: it is made with a key. The key follows from a secret of the installation and from the
//! recipients, so that its backups share blocks for as long as they are for the same ones, and none is taken for present
//! that others could not open. Whoever can read the backup finds the key in its manifest.

use blake3::Hash;

use crate::artifact::identity;
use crate::artifact::keys::Keys;
use crate::domain::encryption::Encryption;
use crate::error::{Error, ErrorKind, Result};

const CONTEXT: &str = "mongokeep 2026-11-30 names of encrypted blocks";

/// How the blocks of one backup are named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Naming(Option<[u8; 32]>);

impl Naming {
    /// Of what is not encrypted.
    pub const PLAIN: Self = Self(None);

    /// `secret`: of the installation that writes them.
    pub fn of(encryption: Option<&Encryption>, secret: &[u8; 32]) -> Self {
        let Some(encryption) = encryption else { return Self::PLAIN };
        let mut recipients: Vec<&str> = encryption.recipients.iter().map(|recipient| recipient.as_str()).collect();
        recipients.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(secret);
        hasher.update(recipients.join("\n").as_bytes());
        Self(Some(*hasher.finalize().as_bytes()))
    }

    /// The name of a block, without its suffix.
    pub fn hash(&self, plain: &[u8]) -> Hash {
        match &self.0 {
            None => blake3::hash(plain),
            Some(key) => blake3::keyed_hash(key, plain),
        }
    }

    /// The key as a manifest holds it; `None` where there is none.
    pub fn sealed(&self, encryption: Option<&Encryption>) -> Result<Option<String>> {
        let Some((key, encryption)) = self.0.zip(encryption) else { return Ok(None) };
        identity::seal_text(encryption, &blake3::Hash::from(key).to_hex()).map(Some)
    }

    /// Errors: `Corrupt` where `sealed` is no such key.
    pub fn opened(sealed: &str, keys: &Keys) -> Result<Self> {
        let key = identity::open_text(sealed, keys)?;
        let key = Hash::from_hex(key.trim())
            .map_err(|e| Error::new(ErrorKind::Corrupt, "the key to the names of the blocks is none").source(e))?;
        Ok(Self(Some(*key.as_bytes())))
    }
}

/// What opens the blocks of one backup, and shows that they are what they are called.
#[derive(Clone)]
pub struct Opening {
    pub keys: Keys,
    pub naming: Naming,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    const B: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

    fn to(recipients: &[&str]) -> Encryption {
        let recipients = recipients.iter().map(|text| text.parse().unwrap()).collect();
        Encryption { recipients, passphrase_identity: None }
    }

    #[test]
    fn a_name_is_the_same_for_the_same_recipients_of_one_installation_only() {
        let (one, other) = ([1; 32], [2; 32]);
        let name = |encryption: &Encryption, secret| Naming::of(Some(encryption), secret).hash(b"x");
        assert_eq!(name(&to(&[A, B]), &one), name(&to(&[B, A]), &one));
        let all = [
            name(&to(&[A, B]), &one),
            name(&to(&[A]), &one),
            name(&to(&[A]), &other),
            Naming::of(None, &one).hash(b"x"),
        ];
        for (n, hash) in all.iter().enumerate() {
            assert!(!all[..n].contains(hash), "{n}");
        }
        assert_eq!(Naming::PLAIN.hash(b"x"), blake3::hash(b"x"));
        assert_eq!(Naming::PLAIN.sealed(Some(&to(&[A]))).unwrap(), None);
    }
}
