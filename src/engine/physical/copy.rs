//! Reading the files of a data folder into blocks.
//!
//! Several threads read, each a stretch of a file at a time. Holes and blocks of zeros are not read further than that:
//! they are noted as such. Memory: a block, plain and compressed, for each thread, and what the sender has under way.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use blake3::Hash;
use tokio_util::sync::CancellationToken;

use super::data_folder::{FoundFile, inside};
use super::server_lock::Pulse;
use crate::domain::text::escape;
use crate::engine::Meter;
use crate::engine::blocks::BLOCK_BYTES;
use crate::engine::blocks::sender::Sender;
use crate::error::{self, Error, ErrorKind, Result};

/// A thread takes this many blocks at a time.
const STRETCH_BLOCKS: u64 = 16;

/// The contents of a file, block by block; `None` for zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedFile {
    pub found: FoundFile,
    /// Before the first byte was read.
    pub read_at: SystemTime,
    pub blocks: Vec<Option<Hash>>,
    /// It ended before its size, or was gone: it changed while it was read.
    pub torn: bool,
}

/// What reading needs.
#[derive(Clone)]
pub struct Copier {
    pub sender: Arc<Sender>,
    pub meter: Arc<Meter>,
    pub pulse: Pulse,
    pub stop: CancellationToken,
    pub threads: usize,
}

struct Stretch {
    file: usize,
    first_block: u64,
    blocks: u64,
}

struct Work {
    files: Vec<FoundFile>,
    folder: PathBuf,
    stretches: Mutex<std::vec::IntoIter<Stretch>>,
    done: Mutex<Vec<CopiedFile>>,
}

impl Copier {
    /// Reads `files` of `folder`, and counts their blocks as work. What is handed to the sender need not be stored when this
    /// returns.
    ///
    /// Errors: name the file that cannot be read; what the sender reports; `Cancelled`.
    pub async fn copy(&self, folder: &Path, files: Vec<FoundFile>) -> Result<Vec<CopiedFile>> {
        let mut stretches = Vec::new();
        let (mut all_blocks, mut all_bytes) = (0, 0);
        for (file, found) in files.iter().enumerate() {
            let blocks = found.size.div_ceil(BLOCK_BYTES as u64);
            (all_blocks, all_bytes) = (all_blocks + blocks, all_bytes + found.size);
            let mut first_block = 0;
            while first_block < blocks {
                let here = STRETCH_BLOCKS.min(blocks - first_block);
                stretches.push(Stretch { file, first_block, blocks: here });
                first_block += here;
            }
        }
        self.meter.add_totals(all_bytes, all_blocks);
        let done = files.iter().map(|found| CopiedFile {
            read_at: SystemTime::now(),
            blocks: vec![None; found.size.div_ceil(BLOCK_BYTES as u64) as usize],
            torn: false,
            found: found.clone(),
        });
        let work = Arc::new(Work {
            done: Mutex::new(done.collect()),
            stretches: Mutex::new(stretches.into_iter()),
            folder: folder.to_owned(),
            files,
        });
        let runtime = tokio::runtime::Handle::current();
        let threads: Vec<_> = (0..self.threads.max(1))
            .map(|_| {
                let (copier, work, runtime) = (self.clone(), Arc::clone(&work), runtime.clone());
                tokio::task::spawn_blocking(move || copier.run_thread(&work, &runtime))
            })
            .collect();
        let mut outcome: Result<()> = Ok(());
        for thread in threads {
            let ended = thread.await.map_err(|e| Error::new(ErrorKind::Internal, "reading files broke off").source(e));
            let ended = ended.and_then(|ended| ended);
            if let Err(e) = ended {
                // The others end at their next block, as cancelled: that explains nothing.
                self.stop.cancel();
                match &outcome {
                    Err(first) if first.kind() != ErrorKind::Cancelled => {}
                    _ => outcome = Err(e),
                }
            }
        }
        outcome?;
        let mut done = work.done.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *done))
    }

    fn run_thread(&self, work: &Work, runtime: &tokio::runtime::Handle) -> Result<()> {
        let mut buffer = vec![0_u8; BLOCK_BYTES];
        loop {
            let next = work.stretches.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(stretch) = next else { return Ok(()) };
            self.read_stretch(work, &stretch, &mut buffer, runtime)?;
        }
    }

    fn read_stretch(
        &self,
        work: &Work,
        stretch: &Stretch,
        buffer: &mut [u8],
        runtime: &tokio::runtime::Handle,
    ) -> Result<()> {
        let found = &work.files[stretch.file];
        let path = inside(&work.folder, &found.path)?;
        let failed = |e: io::Error| error::io(format_args!("reading {}", escape(&path.to_string_lossy())), e);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Removed by the server meanwhile: whoever needs to know sees it in the next listing.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                work.done.lock().unwrap_or_else(PoisonError::into_inner)[stretch.file].torn = true;
                return Ok(());
            }
            Err(e) => return Err(failed(e)),
        };
        for block in stretch.first_block..stretch.first_block + stretch.blocks {
            if self.stop.is_cancelled() {
                return Err(self.sender.failure());
            }
            let start = block * BLOCK_BYTES as u64;
            let length = (found.size - start).min(BLOCK_BYTES as u64);
            let plain = &mut buffer[..length as usize];
            let read = if is_hole(&file, start, length) { Ok(None) } else { read_block(&file, start, plain) };
            self.pulse.beat();
            self.meter.add_bytes(length);
            self.meter.object_done();
            let hash = match read.map_err(failed)? {
                None => None,
                Some(n) if n < length => {
                    work.done.lock().unwrap_or_else(PoisonError::into_inner)[stretch.file].torn = true;
                    return Ok(());
                }
                Some(_) if is_zero(plain) => None,
                Some(_) => Some(self.sender.send(runtime, plain)?),
            };
            self.pulse.beat();
            work.done.lock().unwrap_or_else(PoisonError::into_inner)[stretch.file].blocks[block as usize] = hash;
        }
        Ok(())
    }
}

/// Bytes read: fewer than asked for when the file has become shorter.
fn read_block(file: &File, start: u64, plain: &mut [u8]) -> io::Result<Option<u64>> {
    let mut read = 0;
    while read < plain.len() {
        match file.read_at(&mut plain[read..], start + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Some(read as u64))
}

/// Whether the file system knows that there is nothing at this place. One that cannot tell says no.
fn is_hole(file: &File, start: u64, length: u64) -> bool {
    match rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Data(start)) {
        Ok(data) => data >= start + length,
        // No data from here to the end. A file that has become shorter says the same.
        Err(rustix::io::Errno::NXIO) => file.metadata().is_ok_and(|m| m.len() >= start + length),
        Err(_) => false,
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // In words of sixteen bytes, which the compiler turns into vector instructions.
    let words = bytes.chunks_exact(16);
    words.remainder().iter().all(|byte| *byte == 0)
        && words.into_iter().all(|word| word.try_into().is_ok_and(|word| u128::from_ne_bytes(word) == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_seen_wherever_the_first_other_byte_is() {
        for length in [0, 1, 15, 16, 17, 4096, 4099] {
            let mut bytes = vec![0_u8; length];
            assert!(is_zero(&bytes), "{length}");
            for at in [0, length / 2, length.saturating_sub(1)] {
                if at < length {
                    bytes[at] = 1;
                    assert!(!is_zero(&bytes), "{length} {at}");
                    bytes[at] = 0;
                }
            }
        }
    }

    #[test]
    fn a_hole_is_known_and_the_end_is_none() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.set_len(64 << 20).unwrap();
        assert!(!is_hole(&file, 0, 4096));
        assert!(is_hole(&file, 32 << 20, 4 << 20), "this file system knows no holes");
        assert!(!is_hole(&file, 62 << 20, 4 << 20), "beyond the end");
    }
}
