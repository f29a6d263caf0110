//! The fields of encryption: those that a storage of any type has, and where an identity is read from.

use super::rules::plain_rule;
use crate::domain::encryption::Recipient;
use crate::domain::field::{Field, FieldKind};
use crate::domain::secret::Secret;
use crate::domain::typed::{Typed, described, list, optional_text, secret_text, switch};

/// What is asked for of the encryption of a storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncryptionDraft {
    pub to: Vec<Recipient>,
    pub passphrase: Option<Secret>,
    /// Proves that what is encrypted can be opened.
    pub identity_file: Option<String>,
    pub no_proof: bool,
}

/// Besides the fields of its type.
pub const ENCRYPTION: &[Typed<EncryptionDraft>] = &[
    list!(
        Field::new(
            "encrypt_to",
            "Encrypt to",
            FieldKind::List,
            "recipients of age (age1...): each of them can read it"
        )
        .check(|text| text.parse::<Recipient>().map(drop)),
        to
    ),
    secret_text!(
        Field::new(
            "encrypt_passphrase",
            "Or a passphrase",
            FieldKind::Secret,
            "opens what is encrypted; it is not kept, and a lost one loses the backups",
        )
        .advanced(),
        passphrase
    ),
    optional_text!(
        Field::new(
            "identity_file",
            "Proof",
            FieldKind::Path,
            "the identity of a recipient: a test message is decrypted with it, and the file is not kept",
        )
        .advanced()
        .check(plain_rule),
        identity_file
    ),
    switch!(
        Field::new(
            "no_proof",
            "Skip the proof",
            FieldKind::Bool,
            "backups begin although nobody has shown that they can be opened"
        )
        .default("false")
        .advanced(),
        no_proof
    ),
];
pub const ENCRYPTION_FIELDS: &[Field] = &described::<_, { ENCRYPTION.len() }>(ENCRYPTION);

/// Of whatever reads a backup.
pub const IDENTITY_FIELD: Field = Field::new(
    "identity_file",
    "Identity file",
    FieldKind::Path,
    "encrypted backups: the file with the identity (or the passphrase); empty: the setting encryption.identity_file",
)
.check(plain_rule);
