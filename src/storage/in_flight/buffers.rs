//! Buffers of parts, used again.
//!
//! Memory of this size that is freed and taken anew, by one thread after another, is not given back by every allocator: a backup
//! held half as much again as it used. So a buffer whose part has arrived is what the next part is gathered in.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// As many as were used at once at most.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<BytesMut>>);

impl Buffers {
    /// An empty buffer with room for `bytes`.
    pub(super) fn take(&self, bytes: usize) -> BytesMut {
        let kept = self.kept().pop();
        kept.filter(|buffer| buffer.capacity() >= bytes).unwrap_or_else(|| BytesMut::with_capacity(bytes))
    }

    /// Keeps the memory of `part`, where that has room for `bytes`, unless somebody still reads it or `most` are kept.
    pub(super) fn give_back(&self, part: Bytes, bytes: usize, most: usize) {
        let Ok(mut buffer) = part.try_into_mut() else { return };
        buffer.clear();
        let mut kept = self.kept();
        if buffer.capacity() == bytes && kept.len() < most {
            kept.push(buffer);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_whole_and_only_when_nobody_reads_it() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(1 << 20);
        buffer.extend_from_slice(b"one");
        let (at, part) = (buffer.as_ptr(), buffer.freeze());
        let reader = part.clone();
        buffers.give_back(part, 1 << 20, 2);
        assert_ne!(buffers.take(1 << 20).as_ptr(), at, "somebody reads it");
        buffers.give_back(reader, 1 << 20, 2);
        let again = buffers.take(1 << 20);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert!(again.capacity() >= 1 << 20, "{}", again.capacity());
    }

    #[test]
    fn no_more_are_kept_than_may_be_on_their_way() {
        let buffers = Buffers::default();
        for part in [(); 5].map(|()| buffers.take(1 << 10).freeze()) {
            buffers.give_back(part, 1 << 10, 3);
        }
        buffers.give_back(Bytes::from(vec![0; 1 << 20]), 1 << 10, 9);
        assert_eq!(buffers.kept().len(), 3);
        // One that is too small is no use to anybody.
        assert!(buffers.take(1 << 20).capacity() >= 1 << 20);
        assert_eq!(buffers.kept().len(), 2);
    }
}
