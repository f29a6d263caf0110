//! Where keys come from: identities of age, read from a file of a person when they are needed, and never kept.
//!
//! A storage with a passphrase has an identity of its own, which the passphrase seals: stretching a passphrase takes a
//! second and much memory, and is done once and not for every object.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use age::{armor, scrypt, x25519};
use zeroize::Zeroizing;

use super::codec::{Codec, Decoder};
use super::keys::Keys;
use crate::domain::backup::Compression;
use crate::domain::encryption::{Encryption, Recipient, SealedIdentity};
use crate::domain::secret::Secret;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// How hard it is to try passphrases, as the logarithm of N of scrypt; that of `age -p`. Takes 256 MiB.
const WORK_FACTOR: u8 = 18;

/// A file of identities is smaller.
const MOST_BYTES: u64 = 64 << 10;

/// Where a person keeps the identity: a file as `age-keygen` writes it, or one with the passphrase of a storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityFile(Option<PathBuf>);

/// What a file was found to hold.
enum Held {
    Identities(Vec<x25519::Identity>),
    Passphrase(Secret),
}

/// Something that is encrypted, and how it is called in messages.
#[derive(Debug, Clone)]
pub struct Locked {
    /// Such as `backup nightly-1`.
    pub what: String,
    pub encryption: Encryption,
}

impl IdentityFile {
    pub fn at(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// What opens all of `locked`; without any of them, nothing is read.
    ///
    /// Errors: `Unauthenticated`, naming the recipients of what cannot be opened.
    pub async fn unlock(&self, locked: Vec<Locked>) -> Result<Keys> {
        if locked.is_empty() {
            return Ok(Keys::default());
        }
        let own = self.clone();
        let unlocking = tokio::task::spawn_blocking(move || own.unlock_blocking(&locked));
        unlocking.await.map_err(|e| Error::new(ErrorKind::Internal, "reading an identity broke off").source(e))?
    }

    /// The same, for a thread that may block.
    pub fn unlock_blocking(&self, locked: &[Locked]) -> Result<Keys> {
        let Some(path) = &self.0 else {
            let Some(first) = locked.first() else { return Ok(Keys::default()) };
            return Err(refused(&first.what, &first.encryption, "and no identity was given").hint(GIVE));
        };
        let shown = escape(&path.display().to_string());
        let held = read(path).map_err(|e| match locked.first() {
            Some(first) => e.context(refused(&first.what, &first.encryption, "and its identity cannot be read").full()),
            None => e,
        })?;
        let mut keys = match &held {
            Held::Identities(identities) => identities.clone(),
            Held::Passphrase(_) => Vec::new(),
        };
        for Locked { what, encryption } in locked {
            if Keys::new(keys.clone()).open(encryption) {
                continue;
            }
            match (&held, &encryption.passphrase_identity) {
                (Held::Passphrase(passphrase), Some(sealed)) => match unseal(sealed, passphrase) {
                    Ok(identity) => keys.push(identity),
                    Err(e) => {
                        let why = format!("and the passphrase in {shown} does not open it");
                        return Err(refused(what, encryption, &why).source(e).hint(GIVE));
                    }
                },
                (Held::Passphrase(_), None) => {
                    let why = format!("and {shown} holds no identity of age");
                    return Err(refused(what, encryption, &why).hint(GIVE));
                }
                (Held::Identities(identities), _) => {
                    let of: Vec<String> = identities.iter().map(|one| one.to_public().to_string()).collect();
                    let why = format!("and {shown} holds the identity of {}", of.join(", "));
                    return Err(refused(what, encryption, &why).hint(GIVE));
                }
            }
            // The unsealed identity may be another one than was written down.
            if !Keys::new(keys.clone()).open(encryption) {
                let why = "and the identity that its passphrase seals is of none of them";
                return Err(Error::new(ErrorKind::Corrupt, refused(what, encryption, why).full()));
            }
        }
        Ok(Keys::new(keys))
    }

    /// A warning where others on this machine may read the file. `None` also for one that is not there.
    pub fn warning(&self) -> Option<String> {
        let path = self.0.as_ref()?;
        let mode = std::fs::metadata(path).ok()?.mode() & 0o077;
        let shown = escape(&path.display().to_string());
        (mode != 0).then(|| format!("others on this machine may read the identity file {shown}: chmod 600 {shown}"))
    }
}

const GIVE: &str = "give the file that holds its identity (AGE-SECRET-KEY-1...), or the passphrase of its storage: \
                    --identity-file FILE, or mongokeep settings set encryption.identity_file FILE. Nothing was written";

fn refused(what: &str, encryption: &Encryption, why: &str) -> Error {
    let what = format!("{what} is encrypted to {}, {why}", encryption.words());
    Error::new(ErrorKind::Unauthenticated, what)
}

fn read(path: &Path) -> Result<Held> {
    let shown = escape(&path.display().to_string());
    let wrong = |why: &str| Error::new(ErrorKind::Unauthenticated, format!("the identity file {shown} {why}"));
    let unread = |e| wrong("cannot be read").source(e).hint("mongokeep reads it as the user who runs the daemon");
    // A device, or a pipe that nobody writes to, would be waited for.
    if !std::fs::metadata(path).map_err(unread)?.is_file() {
        return Err(wrong("is no file"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text)).map_err(unread)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(wrong("is too large to be one"));
    }
    held(&text).map_err(|why| wrong(&why))
}

/// What `text` is: it says nothing of it in errors.
fn held(text: &str) -> Result<Held, String> {
    const SEALED: &str = "is encrypted itself: age -d -o KEY FILE makes one that can be read";
    if text.starts_with("age-encryption.org/") || text.trim_start().starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
        return Err(SEALED.into());
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if !lines().any(|line| line.to_ascii_uppercase().starts_with("AGE-")) {
        let passphrase = text.trim_end_matches(['\r', '\n']);
        if passphrase.is_empty() || passphrase.contains('\n') {
            return Err("holds no identity of age (AGE-SECRET-KEY-1...)".into());
        }
        return Ok(Held::Passphrase(Secret::new(passphrase)));
    }
    let mut identities = Vec::new();
    for (number, line) in lines().enumerate() {
        let identity = line.parse::<x25519::Identity>();
        let why = |_| format!("has a line that is no X25519 identity (the {}. that is no comment)", number + 1);
        identities.push(identity.map_err(why)?);
    }
    Ok(Held::Identities(identities))
}

/// Makes an identity that only `passphrase` opens. For a thread that may block: it takes a second.
pub fn seal(passphrase: &Secret) -> Result<SealedIdentity> {
    seal_with(passphrase, WORK_FACTOR)
}

fn seal_with(passphrase: &Secret, work_factor: u8) -> Result<SealedIdentity> {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let mut by = scrypt::Recipient::new(SecretString::from(passphrase.expose().to_owned()));
    by.set_work_factor(work_factor);
    let text = format!(
        "# the identity of a storage of mongokeep\n# public key: {recipient}\n{}\n",
        identity.to_string().expose_secret()
    );
    let text = Zeroizing::new(text);
    let failed = |e: std::io::Error| Error::new(ErrorKind::Internal, "sealing an identity").source(e);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&by as &dyn age::Recipient))
        .map_err(|e| Error::new(ErrorKind::Internal, "sealing an identity").source(e))?;
    let armored = armor::ArmoredWriter::wrap_output(Vec::new(), armor::Format::AsciiArmor).map_err(failed)?;
    let mut sealed = encryptor.wrap_output(armored).map_err(failed)?;
    sealed.write_all(text.as_bytes()).map_err(failed)?;
    let file = sealed.finish().and_then(armor::ArmoredWriter::finish).map_err(failed)?;
    let invalid = |why: String| Error::new(ErrorKind::Internal, why);
    let file = String::from_utf8(file).map_err(|e| invalid(e.to_string()))?;
    Ok(SealedIdentity { recipient: recipient.parse::<Recipient>().map_err(invalid)?, file })
}

/// Opens what [`seal`] made.
fn unseal(file: &str, passphrase: &Secret) -> Result<x25519::Identity> {
    let failed = |e: age::DecryptError| Error::new(ErrorKind::Unauthenticated, "opening a sealed identity").source(e);
    let mut by = scrypt::Identity::new(SecretString::from(passphrase.expose().to_owned()));
    // More would take the memory of the machine.
    by.set_max_work_factor(WORK_FACTOR);
    let decryptor = age::Decryptor::new(armor::ArmoredReader::new(file.as_bytes())).map_err(failed)?;
    let mut opened = decryptor.decrypt(std::iter::once(&by as &dyn age::Identity)).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    let read = opened.by_ref().take(MOST_BYTES).read_to_string(&mut text);
    read.map_err(|e| Error::new(ErrorKind::Corrupt, "opening a sealed identity").source(e))?;
    match held(&text) {
        Ok(Held::Identities(identities)) => identities.into_iter().next(),
        Ok(Held::Passphrase(_)) | Err(_) => None,
    }
    .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a sealed identity is no identity"))
}

/// Encrypts a message as a backup is encrypted and decrypts it again.
///
/// Errors: `Unauthenticated` when it does not come back.
pub fn prove(keys: &Keys, encryption: &Encryption) -> Result<()> {
    let message = b"mongokeep: whoever reads this can read the backups";
    let codec = Codec::new(Compression::default()).encrypted_to(Some(encryption));
    let sealed = codec.encode(message)?;
    let mut opened = Vec::new();
    let came_back = Decoder::of(&format!("test{}", codec.suffix()), &sealed[..], keys)
        .and_then(|mut decoder| decoder.read_to_end(&mut opened))
        .is_ok();
    if came_back && opened == message {
        return Ok(());
    }
    let what = format!("a message to {} was not decrypted", encryption.words());
    Err(Error::new(ErrorKind::Unauthenticated, what))
}

/// A text, encrypted as an armored file of age.
pub fn seal_text(encryption: &Encryption, text: &str) -> Result<String> {
    let failed = |e: std::io::Error| Error::new(ErrorKind::Internal, "encrypting a text").source(e);
    let sealed = Codec::new(Compression::None).encrypted_to(Some(encryption)).encode(text.as_bytes())?;
    let mut armored = armor::ArmoredWriter::wrap_output(Vec::new(), armor::Format::AsciiArmor).map_err(failed)?;
    armored.write_all(&sealed).map_err(failed)?;
    let file = armored.finish().map_err(failed)?;
    String::from_utf8(file).map_err(|e| Error::new(ErrorKind::Internal, "encrypting a text").source(e))
}

/// Opens what [`seal_text`] made.
///
/// Errors: `Corrupt` when it is not that, or for other keys.
pub fn open_text(sealed: &str, keys: &Keys) -> Result<String> {
    let corrupt = |e: std::io::Error| Error::new(ErrorKind::Corrupt, "an encrypted text is damaged").source(e);
    let mut text = String::new();
    let source = armor::ArmoredReader::new(sealed.as_bytes());
    let mut decoder = Decoder::of("text.age", source, keys).map_err(corrupt)?;
    // It is not compressed, so that it is no longer than what is held already.
    decoder.read_to_string(&mut text).map_err(corrupt)?;
    Ok(text)
}

/// The keys of a storage whose passphrase is at hand. For a thread that may block.
pub fn of_passphrase(sealed: &SealedIdentity, passphrase: &Secret) -> Result<Keys> {
    Ok(Keys::new(vec![unseal(&sealed.file, passphrase)?]))
}

#[cfg(test)]
mod tests;
