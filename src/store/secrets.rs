//! The local key, and what is encrypted under it.
//!
//! It protects a copied store file, nothing more: whoever can read the key can read the secrets. Losing it costs the
//! secrets, which can be entered again, and never a backup. Each secret is bound to its row, so that one cannot be
//! moved to another row unnoticed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::domain::secret::Secret;
use crate::error::{Error, ErrorKind, Result, io};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// First byte of what is stored, should the method ever change.
const METHOD: u8 = 1;

/// First byte of what stands for secrets that never came: the copy of a store that was brought back held none.
const MISSING: u8 = 0;

/// Stands for the secrets of these fields until a person gives them again.
pub fn missing_mark(fields: &[String]) -> Vec<u8> {
    let mut mark = vec![MISSING];
    mark.extend_from_slice(fields.join("\n").as_bytes());
    mark
}

/// The fields whose secrets are missing; `None`: `sealed` holds secrets.
pub fn missing_fields(sealed: &[u8]) -> Option<Vec<String>> {
    let (&MISSING, fields) = sealed.split_first()? else { return None };
    Some(String::from_utf8_lossy(fields).lines().map(str::to_owned).collect())
}

pub struct LocalKey {
    file: PathBuf,
}

impl LocalKey {
    /// The key in `file`, which is created when the first secret is stored. It is read anew for each use, so that it
    /// does not stay in memory.
    pub fn at(file: &Path) -> Self {
        Self { file: file.to_owned() }
    }

    /// Encrypts `secret` for the row called `row` (`service/orders`).
    pub fn seal(&self, row: &str, secret: &Secret) -> Result<Vec<u8>> {
        let key = match self.read()? {
            Some(key) => key,
            None => self.create()?,
        };
        let mut text = secret.expose().as_bytes().to_vec();
        let nonce = cipher(&key)?
            .seal_in_place_append_tag(Aad::from(row.as_bytes()), &mut text)
            .map_err(|_| Error::new(ErrorKind::Internal, "encrypting a secret failed"))?;
        let mut out = vec![METHOD];
        out.extend_from_slice(nonce.as_ref());
        out.append(&mut text);
        Ok(out)
    }

    /// Decrypts what [`LocalKey::seal`] made for the same row.
    pub fn open(&self, row: &str, sealed: &[u8]) -> Result<Secret> {
        let lost = |why: String| {
            let (what, name) = row.split_once('/').unwrap_or(("entry", row));
            Error::new(ErrorKind::Failed, format!("the secrets of {what} {name} cannot be decrypted: {why}")).hint(
                format!(
                    "put the key file back, or enter them again with mongokeep {what} edit {name}; only secrets are \
                     lost with a key, never a backup"
                ),
            )
        };
        let Some(key) = self.read()? else {
            return Err(lost(format!("the local key {} is missing", self.file.display())));
        };
        let (Some((&METHOD, rest)), true) = (sealed.split_first(), sealed.len() > NONCE_BYTES) else {
            return Err(lost("stored by another version".into()));
        };
        let (nonce, text) = rest.split_at(NONCE_BYTES);
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| lost("truncated".into()))?;
        let clear = cipher(&key)?
            .open_in_place(nonce, Aad::from(row.as_bytes()), &mut text)
            .map_err(|_| lost(format!("{} is not the key they were encrypted with", self.file.display())))?;
        let clear = std::str::from_utf8(clear).map_err(|_| lost("not text".into()))?;
        Ok(Secret::new(clear))
    }

    /// A secret for `purpose` that follows from the key.
    pub fn derived(&self, purpose: &str) -> Result<[u8; 32]> {
        let key = match self.read()? {
            Some(key) => key,
            None => self.create()?,
        };
        Ok(blake3::derive_key(&format!("mongokeep {purpose}"), &key))
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        match fs::read(&self.file) {
            Ok(bytes) if bytes.len() == KEY_BYTES => Ok(Some(Zeroizing::new(bytes))),
            Ok(_) => Err(Error::new(ErrorKind::Failed, format!("the local key {} is damaged", self.file.display())).hint(
                "put the right file back, or remove it and enter the secrets again; only secrets are lost with a key, \
                 never a backup",
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(format!("reading the local key {}", self.file.display()), e)),
        }
    }

    /// Makes a key, durably and complete at once, unless another process was faster.
    fn create(&self) -> Result<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0_u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::new(ErrorKind::Internal, "no random numbers"))?;
        let temporary = self.file.with_extension(super::random_id()?);
        let write = || -> std::io::Result<bool> {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&key)?;
            file.sync_all()?;
            // A link, unlike a rename, never replaces a key that secrets are already encrypted with.
            match fs::hard_link(&temporary, &self.file) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
                Err(e) => return Err(e),
            }
            fs::File::open(self.file.parent().unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(true)
        };
        let made = write();
        let _ = fs::remove_file(&temporary);
        match made {
            Ok(true) => Ok(key),
            Ok(false) => {
                self.read()?.ok_or_else(|| Error::new(ErrorKind::Transient, "the local key appeared and vanished"))
            }
            Err(e) => Err(io(format!("creating the local key {}", self.file.display()), e)),
        }
    }
}

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| Error::new(ErrorKind::Internal, "not a key"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_opens_only_in_its_row_and_under_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = LocalKey::at(&path);
        let sealed = key.seal("service/a", &Secret::new("hunter2")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(key.open("service/a", &sealed).unwrap().expose(), "hunter2");
        assert!(key.open("service/b", &sealed).is_err());
        assert!(key.open("service/a", &sealed[..5]).is_err());

        fs::write(&path, [0; KEY_BYTES]).unwrap();
        let error = key.open("service/a", &sealed).unwrap_err();
        assert!(error.full().contains("is not the key"), "{error}");
        assert!(error.hint_text().unwrap().contains("never a backup"));
        fs::write(&path, [0; 5]).unwrap();
        assert!(key.open("service/a", &sealed).unwrap_err().full().contains("damaged"));
        fs::remove_file(&path).unwrap();
        assert!(key.open("service/a", &sealed).unwrap_err().full().contains("missing"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_never_came_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = LocalKey::at(&dir.path().join("key")).seal("service/a", &Secret::new("x")).unwrap();
        assert_eq!(missing_fields(&sealed), None);
        for fields in [vec![], vec!["secret_access_key".to_owned()], vec!["a".to_owned(), "b".to_owned()]] {
            assert_eq!(missing_fields(&missing_mark(&fields)), Some(fields));
        }
    }

    #[test]
    fn keys_made_at_once_are_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| LocalKey::at(&path).create().unwrap().to_vec())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == fs::read(&path).unwrap()));
    }
}
