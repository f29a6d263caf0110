//! Snappy's framing format, and S2, which extends it: larger blocks, and copies that repeat the last offset.
//!
//! Other tools write their backups so (PBM does by default), and no well-kept crate reads S2. Both are read here, never
//! written. Every chunk carries the CRC-32C of what it holds. A stream has no end mark, so that one which was cut off
//! between two chunks reads as a shorter one: whoever reads it must know how much it should hold.
//!
//! Sources: `framing_format.txt` and `format_description.txt` of Snappy; the README of `klauspost/compress/s2`.

use std::io::{self, Read};

use crc_fast::{CrcAlgorithm, checksum};

/// What a block of each of the two may hold.
const SNAPPY_BLOCK: usize = 64 << 10;
const S2_BLOCK: usize = 4 << 20;

/// Bytes of the checksum in front of a chunk's data.
const CRC: usize = 4;

const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
const IDENTIFIER: u8 = 0xff;
/// Types above may be skipped; the ones below may not.
const LAST_RESERVED: u8 = 0x7f;

/// Reads a framed stream. Holds one chunk and what came out of it, 8 MiB at most.
pub struct FrameReader<R> {
    source: R,
    /// The largest block of this kind of stream; 0 before its identifier.
    limit: usize,
    chunk: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: Read> FrameReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, limit: 0, chunk: Vec::new(), plain: Vec::new(), at: 0 }
    }

    pub fn into_inner(self) -> R {
        self.source
    }

    pub fn get_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Decodes the next chunk that holds data; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            let mut head = [0_u8; 4];
            match self.source.read(&mut head[..1]) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            self.source.read_exact(&mut head[1..])?;
            let [kind, a, b, c] = head;
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            if kind == IDENTIFIER {
                self.identify(length)?;
                continue;
            }
            if self.limit == 0 {
                return Err(damaged("it does not begin as a snappy or S2 stream does"));
            }
            match kind {
                COMPRESSED | UNCOMPRESSED => {
                    self.data(kind, length)?;
                    if !self.plain.is_empty() {
                        return Ok(true);
                    }
                }
                _ if kind <= LAST_RESERVED => return Err(damaged("it holds a chunk of an unknown type")),
                _ => {
                    let skipped = io::copy(&mut (&mut self.source).take(length as u64), &mut io::sink())?;
                    if skipped != length as u64 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    fn identify(&mut self, length: usize) -> io::Result<()> {
        let mut name = [0_u8; 6];
        if length != name.len() {
            return Err(damaged("it does not begin as a snappy or S2 stream does"));
        }
        self.source.read_exact(&mut name)?;
        self.limit = match &name {
            b"sNaPpY" => SNAPPY_BLOCK,
            b"S2sTwO" => S2_BLOCK,
            _ => return Err(damaged("it is neither a snappy nor an S2 stream")),
        };
        Ok(())
    }

    fn data(&mut self, kind: u8, length: usize) -> io::Result<()> {
        // What does not compress is stored as it is, so that a compressed block is hardly longer than what it holds.
        if length < CRC || length > CRC + self.limit + self.limit / 6 + 32 {
            return Err(damaged("the length of a chunk cannot be"));
        }
        self.chunk.resize(length, 0);
        self.source.read_exact(&mut self.chunk)?;
        let (crc, block) = self.chunk.split_at(CRC);
        self.at = 0;
        self.plain.clear();
        if kind == COMPRESSED {
            decode(block, self.limit, &mut self.plain)?;
        } else if block.len() <= self.limit {
            self.plain.extend_from_slice(block);
        } else {
            return Err(damaged("a chunk holds more than it may"));
        }
        let sum = checksum(CrcAlgorithm::Crc32Iscsi, &self.plain) as u32;
        let masked = sum.rotate_right(15).wrapping_add(0xa282_ead8);
        if crc != masked.to_le_bytes() {
            return Err(damaged("the checksum of a chunk does not match"));
        }
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || (self.at == self.plain.len() && !self.fill()?) {
            return Ok(0);
        }
        let rest = self.plain.get(self.at..).unwrap_or_default();
        let n = buffer.len().min(rest.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

/// The bytes of a block, taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(|| damaged("a block ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A little-endian number of `n` bytes, at most four.
    fn number(&mut self, n: usize) -> io::Result<usize> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn varint(&mut self) -> io::Result<usize> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.number(1)?;
            value |= (byte as u64 & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| damaged("a block is too long"));
            }
        }
        Err(damaged("a block is too long"))
    }
}

/// Decodes one block, of `limit` bytes at most, to the end of the empty `out`.
fn decode(block: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let mut input = Input(block);
    let expected = input.varint()?;
    if expected > limit {
        return Err(damaged("a block holds more than it may"));
    }
    out.reserve(expected);
    // Zero before the first copy: nothing to repeat.
    let mut offset = 0_usize;
    while !input.0.is_empty() {
        let tag = input.number(1)?;
        let length = match tag & 3 {
            0 => {
                let length = match tag >> 2 {
                    short @ 0..60 => short,
                    long => input.number(long - 59)?,
                };
                let length = length + 1;
                if length > expected - out.len() {
                    return Err(damaged("a block holds more than it says"));
                }
                out.extend_from_slice(input.take(length)?);
                continue;
            }
            1 => {
                let near = (tag & 0xe0) << 3 | input.number(1)?;
                let length = tag >> 2 & 7;
                if near != 0 {
                    offset = near;
                    length + 4
                } else {
                    // S2: the offset of the last copy again, and longer ones.
                    4 + match length {
                        5 => 4 + input.number(1)?,
                        6 => (1 << 8) + input.number(2)?,
                        7 => (1 << 16) + input.number(3)?,
                        short => short,
                    }
                }
            }
            2 => {
                offset = input.number(2)?;
                1 + (tag >> 2)
            }
            _ => {
                offset = input.number(4)?;
                1 + (tag >> 2)
            }
        };
        if offset == 0 || offset > out.len() || length > expected - out.len() {
            return Err(damaged("a block refers to what it does not hold"));
        }
        let mut left = length;
        // A copy may reach into what it writes itself: as much as is there is copied at once.
        while left > 0 {
            let from = out.len() - offset;
            let n = left.min(offset);
            out.extend_from_within(from..from + n);
            left -= n;
        }
    }
    if out.len() == expected { Ok(()) } else { Err(damaged("a block holds less than it says")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decode(bytes, S2_BLOCK, &mut out).map(|()| out)
    }

    #[test]
    fn literals_copies_and_repeats() {
        // "abcd", then 8 of it again with a near copy.
        assert_eq!(block(&[12, 3 << 2, b'a', b'b', b'c', b'd', 4 << 2 | 1, 4]).unwrap(), b"abcdabcdabcd");
        // The same with both far forms.
        assert_eq!(block(&[12, 3 << 2, b'a', b'b', b'c', b'd', 7 << 2 | 2, 4, 0]).unwrap(), b"abcdabcdabcd");
        assert_eq!(block(&[12, 3 << 2, b'a', b'b', b'c', b'd', 7 << 2 | 3, 4, 0, 0, 0]).unwrap(), b"abcdabcdabcd");
        // A near copy of 4, then a repeat of 4.
        assert_eq!(block(&[12, 3 << 2, b'a', b'b', b'c', b'd', 1, 4, 1, 0]).unwrap(), b"abcdabcdabcd");
        // Repeats with a length of one, two and three bytes.
        for (repeat, length) in [
            (&[5 << 2 | 1, 0, 10][..], 18),
            (&[6 << 2 | 1, 0, 1, 1], 256 + 257 + 4),
            (&[7 << 2 | 1, 0, 2, 0, 1], 65_536 + 65_538 + 4),
        ] {
            let total = 1 + 4 + length;
            let mut bytes = Vec::new();
            let mut rest = total;
            while rest > 0x7f {
                bytes.push(rest as u8 & 0x7f | 0x80);
                rest >>= 7;
            }
            bytes.extend([rest as u8, 0, b'x', 1, 1]);
            bytes.extend(repeat);
            assert_eq!(block(&bytes).unwrap(), vec![b'x'; total], "{length}");
        }
        assert_eq!(block(&[0]).unwrap(), b"");
        // A literal whose length stands behind its tag.
        let mut long = vec![60, 60 << 2, 59];
        long.extend([b'y'; 60]);
        assert_eq!(block(&long).unwrap(), [b'y'; 60]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &[][..],
            &[1],
            &[2, 0, b'a'],
            &[1, 1 << 2, b'a', b'b'],
            &[4, 1 << 2, b'a'],
            // A repeat before any copy, a copy from before the beginning, one that is too long.
            &[5, 0, b'a', 1, 0],
            &[5, 0, b'a', 1, 2],
            &[4, 0, b'a', 1, 1],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0x7f, 0],
        ] {
            assert!(block(bad).is_err(), "{bad:?}");
        }
    }

    fn framed(identifier: &[u8; 6], chunks: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
        let mut out = vec![IDENTIFIER, 6, 0, 0];
        out.extend(identifier);
        for (kind, data, plain) in chunks {
            let crc = (checksum(CrcAlgorithm::Crc32Iscsi, plain) as u32).rotate_right(15).wrapping_add(0xa282_ead8);
            let length = (data.len() + CRC) as u32;
            out.push(*kind);
            out.extend(&length.to_le_bytes()[..3]);
            out.extend(crc.to_le_bytes());
            out.extend(*data);
        }
        out
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        FrameReader::new(stream).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_stream_is_read_and_damage_is_found() {
        let compressed = [8, 3 << 2, b'a', b'b', b'c', b'd', 1, 4];
        let chunks: &[(u8, &[u8], &[u8])] =
            &[(COMPRESSED, &compressed, b"abcdabcd"), (0xfe, b"padding", b""), (UNCOMPRESSED, b"xyz", b"xyz")];
        for identifier in [b"sNaPpY", b"S2sTwO"] {
            let stream = framed(identifier, chunks);
            assert_eq!(read(&stream).unwrap(), b"abcdabcdxyz");
            let twice: Vec<u8> = stream.iter().chain(&stream).copied().collect();
            assert_eq!(read(&twice).unwrap(), b"abcdabcdxyzabcdabcdxyz");
            // All but the padding is covered.
            let data = (10..10 + 4 + 4 + compressed.len()).chain(stream.len() - 7..stream.len());
            for at in data {
                let mut damaged = stream.clone();
                damaged[at] ^= 0x10;
                assert!(read(&damaged).is_err(), "byte {at}");
            }
        }
        assert!(read(&framed(b"s2StwO", chunks)).is_err());
        assert!(read(&framed(b"sNaPpY", &[(0x02, b"x", b"x")])).is_err());
        assert!(read(&framed(b"sNaPpY", chunks)[10..]).is_err(), "without an identifier");
        let large = vec![0; SNAPPY_BLOCK + 1];
        assert!(read(&framed(b"sNaPpY", &[(UNCOMPRESSED, &large, &large)])).is_err());
        assert_eq!(read(&framed(b"S2sTwO", &[(UNCOMPRESSED, &large, &large)])).unwrap(), large);
        let stream = framed(b"S2sTwO", chunks);
        assert!(read(&stream[..stream.len() - 1]).is_err());
        assert!(read(&stream[..12]).is_err());
        assert_eq!(read(&[]).unwrap(), b"");
    }
}
