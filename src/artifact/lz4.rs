//! LZ4's frame format, read to its end mark.
//!
//! The decoder takes a stream that ends between two blocks for a whole one. Other tools' objects may have no other sign of
//! being cut off, so that the mark is asked for here.

use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;

/// Magic number and flags, of which one says that a checksum follows the end mark.
const HEAD: usize = 5;
const HAS_CHECKSUM: u8 = 0x04;

/// What passes, with its first and its last bytes.
pub struct Ends<R> {
    source: R,
    head: Vec<u8>,
    tail: [u8; 8],
}

impl<R: Read> Read for Ends<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        for byte in buffer.iter().take(n) {
            if self.head.len() < HEAD {
                self.head.push(*byte);
            }
        }
        let new = buffer.get(..n).unwrap_or_default();
        for byte in new.get(n.saturating_sub(self.tail.len())..).unwrap_or_default() {
            self.tail.rotate_left(1);
            self.tail[7] = *byte;
        }
        Ok(n)
    }
}

/// Reads one frame.
pub struct FrameReader<R: Read>(FrameDecoder<Ends<R>>);

impl<R: Read> FrameReader<R> {
    pub fn new(source: R) -> Self {
        Self(FrameDecoder::new(Ends { source, head: Vec::new(), tail: [1; 8] }))
    }

    pub fn into_inner(self) -> R {
        self.0.into_inner().source
    }

    pub fn get_mut(&mut self) -> &mut R {
        &mut self.0.get_mut().source
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        if n > 0 || buffer.is_empty() {
            return Ok(n);
        }
        let Ends { head, tail, .. } = self.0.get_ref();
        let mark = match head.get(HEAD - 1) {
            Some(flags) if flags & HAS_CHECKSUM != 0 => tail.get(..4),
            _ => tail.get(4..),
        };
        if mark == Some(&[0; 4]) { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::frame::{FrameEncoder, FrameInfo};
    use std::io::Write;

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        FrameReader::new(stream).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_stream_without_its_end_is_none() {
        for checksum in [true, false] {
            let info = FrameInfo::new().content_checksum(checksum);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            let plain = [7; 100_000];
            encoder.write_all(&plain).unwrap();
            let stream = encoder.finish().unwrap();
            assert_eq!(read(&stream).unwrap(), plain);
            let end = if checksum { 8 } else { 4 };
            for length in [0, 4, 10, stream.len() - end, stream.len() - 1] {
                assert!(read(&stream[..length]).is_err(), "{checksum} {length}");
            }
        }
    }
}
