//! The encryption of a storage: whom to, and the proof that it can be opened again.
//!
//! Nothing is contacted, and nothing of an identity is kept.

use std::path::PathBuf;

use serde::Serialize;

use super::Values;
use super::restores::identity_path;
use crate::artifact::identity::{self, IdentityFile, Locked};
use crate::domain::encryption::{Encryption, Proof, Recipient, StorageEncryption};
use crate::domain::fields::{self, ENCRYPTION, ENCRYPTION_FIELDS, EncryptionDraft};
use crate::domain::typed;
use crate::error::{Error, Result};

/// The encryption of a storage, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EncryptionView {
    /// Each of them opens what is written now: their keys, in full.
    pub recipients: Vec<Recipient>,
    /// One of them belongs to a passphrase.
    pub passphrase: bool,
    /// That one.
    #[serde(skip)]
    pub of_passphrase: Option<Recipient>,
    /// `None`: nobody has shown an identity yet, and no backup begins.
    pub proof: Option<Proof>,
}

impl EncryptionView {
    /// `None`: nothing is encrypted.
    pub fn of(encryption: &StorageEncryption) -> Option<Self> {
        (!encryption.is_none()).then(|| Self {
            recipients: encryption.encryption().recipients,
            passphrase: encryption.passphrase.is_some(),
            of_passphrase: encryption.passphrase.as_ref().map(|sealed| sealed.recipient.clone()),
            proof: encryption.proof,
        })
    }

    /// Whom to, in words: a person who gave a passphrase has typed no recipient.
    pub fn words(&self) -> String {
        words_with(&self.recipients, self.of_passphrase.as_ref())
    }

    /// What losing it means.
    pub fn loss(&self) -> &'static str {
        match (self.passphrase, self.recipients.len()) {
            (true, 1) => "whoever loses the passphrase loses the backups: nobody can read them without it",
            _ => "whoever loses the identities of all recipients loses the backups: nobody can read them without one",
        }
    }

    /// What a person must know who has just chosen it.
    pub fn advice(&self, storage: &str) -> Vec<String> {
        let proof = match self.proof {
            Some(Proof::Given) => "a test message was decrypted".to_owned(),
            Some(Proof::Waived) => "nobody has shown that they can be read (--no-proof)".to_owned(),
            None => format!(
                "no backup begins, and no change is recorded, before an identity was shown: mongokeep storage edit {storage} --identity-file FILE"
            ),
        };
        vec![self.loss().to_owned(), proof]
    }
}

/// Recipients in words. `of_passphrase`: the one among them that a passphrase opens.
pub fn words_with(recipients: &[Recipient], of_passphrase: Option<&Recipient>) -> String {
    let one = |recipient: &Recipient| match of_passphrase {
        Some(own) if own == recipient => format!("a passphrase (its recipient is {recipient})"),
        _ => recipient.to_string(),
    };
    recipients.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What a person is told who names a file as the place of an identity.
pub fn identity_warning(path: &str) -> Option<String> {
    IdentityFile::at(Some(PathBuf::from(path))).warning()
}

/// What of `values` is about encryption, and the rest.
pub fn divided(values: &Values) -> (Values, Values) {
    values.clone().into_iter().partition(|(key, _)| ENCRYPTION_FIELDS.iter().any(|field| field.key == key))
}

/// `present` with what `values` has. `usual`: the identity file of the settings, which proves it where it can and no other was
/// given. For a thread that may block: a passphrase takes seconds.
///
/// Errors: `Invalid`, naming the field; `Unauthenticated` for an identity that was given and opens nothing of it.
pub fn changed(
    present: &StorageEncryption,
    values: &Values,
    storage: &str,
    usual: Option<PathBuf>,
) -> Result<StorageEncryption> {
    fields::check(&[ENCRYPTION_FIELDS], values, true)?;
    let mut draft = EncryptionDraft { to: present.to.clone(), ..EncryptionDraft::default() };
    typed::apply(ENCRYPTION, &mut draft, values)?;
    let mut changed = StorageEncryption { to: draft.to, ..present.clone() };
    let mut own_keys = None;
    match (&draft.passphrase, values.contains_key("encrypt_passphrase")) {
        (Some(passphrase), _) => {
            let sealed = identity::seal(passphrase)?;
            own_keys = Some(identity::of_passphrase(&sealed, passphrase)?);
            changed.passphrase = Some(sealed);
        }
        (None, true) => changed.passphrase = None,
        (None, false) => {}
    }
    let encryption = changed.encryption();
    if encryption.recipients != present.encryption().recipients {
        changed.proof = None;
    }
    if changed.is_none() {
        for (key, is_given) in [("identity-file", draft.identity_file.is_some()), ("no-proof", draft.no_proof)] {
            if is_given {
                return Err(Error::invalid(key, "belongs to --encrypt-to or --encrypt-passphrase-file"));
            }
        }
        return Ok(StorageEncryption::default());
    }
    if draft.identity_file.is_some() && draft.no_proof {
        return Err(Error::invalid("no-proof", "is given besides --identity-file, which is the proof"));
    }
    if let Some(path) = &draft.identity_file {
        let path = PathBuf::from(identity_path(path)?);
        prove(path, &encryption, storage).map_err(|e| e.hint(GIVE_ANOTHER).about_field("identity_file"))?;
        changed.proof = Some(Proof::Given);
    } else if draft.no_proof {
        changed.proof = Some(Proof::Waived);
    } else if let Some(keys) = own_keys {
        // Whoever typed the passphrase has it: that it opens what it should is tried all the same.
        identity::prove(&keys, &encryption)?;
        changed.proof = Some(Proof::Given);
    } else if changed.proof.is_none()
        && let Some(path) = usual
    {
        // That of another storage proves nothing of this one, which is no fault.
        changed.proof = prove(path, &encryption, storage).is_ok().then_some(Proof::Given);
    }
    Ok(changed)
}

const GIVE_ANOTHER: &str = "give --identity-file with the file that holds its identity (AGE-SECRET-KEY-1...) or the passphrase of \
                            the storage; --no-proof goes without. Nothing was changed";

/// Decrypts a test message with the identity in a file.
fn prove(path: PathBuf, encryption: &Encryption, storage: &str) -> Result<()> {
    let locked = Locked { what: format!("storage {storage}"), encryption: encryption.clone() };
    let keys = IdentityFile::at(Some(path)).unlock_blocking(&[locked])?;
    identity::prove(&keys, encryption)
}
