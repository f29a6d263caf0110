//! The note that an attempt left blocks which perhaps no backup needs. Whoever makes the next physical backup of the folder
//! collects them; so does whoever deletes one, with or without the note.

use crate::artifact::layout::BlocksRoot;
use crate::error::Result;
use crate::storage::{PutMode, Storage};

/// The contents of the note say what it is for.
const LEFT: &[u8] =
    b"{\"why\": \"an attempt at a backup left blocks; they are collected after the next physical backup\"}\n";

/// Notes that blocks were left which perhaps no backup needs: of an attempt that will be made again. Whoever makes the next
/// physical backup of the folder collects them.
pub async fn note_left(storage: &dyn Storage, root: &BlocksRoot) -> Result<()> {
    storage.put(&root.left()?, LEFT.into(), PutMode::Overwrite).await
}

/// See [`note_left`].
pub async fn is_noted(storage: &dyn Storage, root: &BlocksRoot) -> Result<bool> {
    Ok(storage.stat(&root.left()?).await?.is_some())
}
