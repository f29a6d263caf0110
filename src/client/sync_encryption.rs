//! A storage that holds encrypted backups and would take the next one in plain text: so it is with one that another machine
//! made, and that was added here without its recipients.

use crate::artifact::manifest::Envelope;
use crate::domain::command_line::quoted;
use crate::domain::encryption::{Encryption, StorageEncryption};
use crate::domain::text::counted;

/// What a person must know before the next backup, if anything.
pub fn warning(storage: &str, present: &StorageEncryption, held: &[Envelope]) -> Option<String> {
    if !present.is_none() {
        return None;
    }
    // Whoever ended the encryption has made one without it since.
    let newest = held.iter().max_by_key(|envelope| envelope.started_at)?.encryption.as_ref()?;
    let encrypted = held.iter().filter(|envelope| envelope.encryption.is_some()).count() as u64;
    let what = match held.len() as u64 {
        all if all == encrypted && all == 1 => "the backup here is encrypted".to_owned(),
        all if all == encrypted => format!("all {} here are encrypted", counted(all, "backup")),
        all => format!("{encrypted} of {} here are encrypted, the newest among them", counted(all, "backup")),
    };
    Some(format!(
        "{what} (to {}), but storage {storage} encrypts nothing: the next backup would be stored in plain text. To go on \
         encrypting: {}",
        newest.words(),
        command(storage, newest)
    ))
}

/// The command that has `storage` encrypt as its backups were.
fn command(storage: &str, encryption: &Encryption) -> String {
    let edit = format!("mongokeep storage edit {}", quoted(storage));
    // Which of the recipients belongs to the passphrase, only the passphrase knows; and it seals a new one.
    if encryption.passphrase_identity.is_some() {
        let others = if encryption.recipients.len() > 1 { " [--encrypt-to RECIPIENT]" } else { "" };
        return format!("{edit} --encrypt-passphrase-file FILE{others}");
    }
    let to: String = encryption.recipients.iter().map(|recipient| format!(" --encrypt-to {recipient}")).collect();
    format!("{edit}{to} --identity-file FILE")
}
