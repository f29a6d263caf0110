//! The bytes of an archive as they come, decompressed, in pieces of the format: four bytes, or a document.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::artifact::bson::{check, frame_length};
use crate::artifact::gunzip::{Gunzip, Points};
use crate::error::{Error, Result};

/// What ends a block, and the list of collections.
pub const TERMINATOR: [u8; 4] = [0xff; 4];

/// What is read ahead.
const AHEAD: usize = 1 << 20;

/// Stored bytes that come through a channel. What the storage reports is kept aside: a decompressor passes only
/// `io::Error` on.
pub struct Stored {
    chunks: mpsc::Receiver<Result<Bytes>>,
    present: Bytes,
    pub error: Option<Error>,
}

impl Stored {
    pub fn new(chunks: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self { chunks, present: Bytes::new(), error: None }
    }
}

impl Read for &mut Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.present.is_empty() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.present = chunk,
                Some(Err(error)) => {
                    self.error = Some(error);
                    return Err(io::Error::other("the storage failed"));
                }
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.present.len());
        buffer[..n].copy_from_slice(&self.present.split_to(n));
        Ok(n)
    }
}

enum Source<R: Read> {
    Plain(R),
    Gzip(Box<Gunzip<R>>),
}

/// What is wrong with an archive.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It ends too early. Where, in its decompressed bytes.
    Ends(u64),
    Damaged(String),
    /// Not damage: what is not read here.
    Unsupported(String),
}

pub fn damaged(why: impl Into<String>) -> Wrong {
    Wrong::Damaged(why.into())
}

/// A piece of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    End,
    Terminator,
    /// A document of so many bytes, of which only these are known yet.
    Document(usize),
}

/// See the module's documentation.
pub struct Input<R: Read> {
    source: Source<R>,
    buffer: Vec<u8>,
    /// What of `buffer` was taken.
    taken: usize,
    /// Where `buffer` begins, in decompressed bytes.
    begins: u64,
}

impl<R: Read> Input<R> {
    pub fn new(source: R, gzipped: bool) -> Self {
        let source = match gzipped {
            true => Source::Gzip(Box::new(Gunzip::with_points(source))),
            false => Source::Plain(source),
        };
        Self { source, buffer: Vec::new(), taken: 0, begins: 0 }
    }

    /// Decompressed bytes that were taken.
    pub fn position(&self) -> u64 {
        self.begins + self.taken as u64
    }

    pub fn into_points(self) -> Points {
        match self.source {
            Source::Plain(_) => Points::default(),
            Source::Gzip(gunzip) => gunzip.into_points(),
        }
    }

    /// Reads until `length` bytes are at hand, or there are no more. How many are.
    fn fill(&mut self, length: usize) -> std::result::Result<usize, Wrong> {
        if self.buffer.len() - self.taken < length {
            self.buffer.drain(..self.taken);
            self.begins += self.taken as u64;
            self.taken = 0;
            let mut filled = self.buffer.len();
            self.buffer.resize(length.max(AHEAD), 0);
            while filled < length {
                let space = &mut self.buffer[filled..];
                let read = match &mut self.source {
                    Source::Plain(source) => source.read(space),
                    Source::Gzip(gunzip) => gunzip.read(space),
                };
                match read {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.buffer.truncate(filled);
                        return Err(match e.kind() {
                            io::ErrorKind::UnexpectedEof => Wrong::Ends(self.begins + filled as u64),
                            _ => damaged(e.to_string()),
                        });
                    }
                }
            }
            self.buffer.truncate(filled);
        }
        Ok(self.buffer.len() - self.taken)
    }

    fn ends(&self) -> Wrong {
        Wrong::Ends(self.begins + self.buffer.len() as u64)
    }

    pub fn four(&mut self) -> std::result::Result<[u8; 4], Wrong> {
        if self.fill(4)? < 4 {
            return Err(self.ends());
        }
        let four = *self.buffer[self.taken..].first_chunk().ok_or_else(|| self.ends())?;
        self.taken += 4;
        Ok(four)
    }

    /// What comes next. A terminator is taken, a document is not.
    pub fn piece(&mut self) -> std::result::Result<Piece, Wrong> {
        match self.fill(4)? {
            0 => return Ok(Piece::End),
            1..4 => return Err(self.ends()),
            _ => {}
        }
        let head = &self.buffer[self.taken..self.taken + 4];
        if head == TERMINATOR {
            self.taken += 4;
            return Ok(Piece::Terminator);
        }
        if head == super::MAGIC {
            return Err(Wrong::Unsupported(format!(
                "a second archive begins at byte {}: two were written into one file",
                self.position()
            )));
        }
        let length = frame_length(head)
            .map_err(|_| damaged(format!("what is at byte {} is no document of an archive", self.position())))?;
        Ok(Piece::Document(length))
    }

    /// Takes a document of `length` bytes.
    pub fn document(&mut self, length: usize, check_structure: bool) -> std::result::Result<&[u8], Wrong> {
        let at = self.position();
        if self.fill(length)? < length {
            return Err(self.ends());
        }
        let document = &self.buffer[self.taken..self.taken + length];
        self.taken += length;
        let is_sound = if check_structure { check(document).is_ok() } else { document.last() == Some(&0) };
        if is_sound { Ok(document) } else { Err(damaged(format!("the document at byte {at} is damaged"))) }
    }
}
