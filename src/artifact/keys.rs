//! What opens encrypted objects: identities of age that were unlocked (see [`super::identity`]).

use std::sync::Arc;

use age::x25519;

use crate::domain::encryption::Encryption;

/// Identities that were unlocked. Without any, only what is not encrypted can be read.
#[derive(Clone, Default)]
pub struct Keys(Arc<Vec<x25519::Identity>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl Keys {
    pub(super) fn new(identities: Vec<x25519::Identity>) -> Self {
        Self(Arc::new(identities))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As age takes them.
    pub(super) fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }

    /// Whether one of them is of a recipient.
    pub(super) fn open(&self, encryption: &Encryption) -> bool {
        self.0.iter().any(|identity| {
            let own = identity.to_public().to_string();
            encryption.recipients.iter().any(|recipient| recipient.as_str() == own)
        })
    }
}

/// Keys of their own, and what they open.
#[cfg(test)]
pub fn some() -> (Keys, Encryption) {
    let identity = x25519::Identity::generate();
    let recipients = vec![identity.to_public().to_string().parse().unwrap()];
    (Keys::new(vec![identity]), Encryption { recipients, passphrase_identity: None })
}
