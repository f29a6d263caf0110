//! The store itself kept safe: a copy of what a person decided, in a storage of choice, and back from there.
//!
//! A copy is one small object. In a storage that encrypts it holds the secrets, encrypted like everything else there; in any
//! other it holds none. It must never be written anywhere else than a person said, and never in the clear with a secret.

mod read;
mod write;

pub use read::{Found, copies, open};
pub use write::{Pending, pending, write_copy};
