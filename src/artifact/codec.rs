//! How the bytes of an object are encoded: the one place that names compressors.
//!
//! A writer is handed a [`Codec`]; a reader finds in an object's name which one it was, or is told by the metadata of the
//! tool that wrote it. Nobody else asks what it is, so that encryption comes in here and nowhere else.

use std::io::{self, Read, Write};

use super::lz4;
use super::s2::FrameReader;
use crate::domain::backup::{Compression, ForeignCompression};
use crate::domain::words::words;
use crate::error::{Error, ErrorKind, Result, io};

/// What a writer does to the bytes of each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    compression: Compression,
}

/// What the name of an object may end in. The longest first.
const SUFFIXES: [&str; 2] = [".zst", ".gz"];

/// What the name of an encoded object ends in, or nothing, as [`Codec::suffix`] gives it.
pub fn suffix_of(file_name: &str) -> &'static str {
    SUFFIXES.into_iter().find(|suffix| file_name.ends_with(suffix)).unwrap_or("")
}

impl Codec {
    pub fn new(compression: Compression) -> Self {
        Self { compression }
    }

    /// What the name of an object ends in, dot included (`.zst`), or nothing.
    pub fn suffix(self) -> &'static str {
        self.compression.suffix()
    }

    /// Encodes what is written to it into `sink`, from [`Encoder::finish`] on completely.
    pub fn encoder<W: Write>(self, sink: W) -> Result<Encoder<W>> {
        let failed = |e| io("starting the compressor", e);
        Ok(Encoder(match self.compression {
            Compression::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, level).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Encoding::Zstd(encoder)
            }
            Compression::Gzip(level) => {
                Encoding::Gzip(flate2::write::GzEncoder::new(sink, flate2::Compression::new(level)))
            }
            Compression::None => Encoding::Plain(sink),
            Compression::Foreign(word) => {
                let what = format!("nothing is written with {}, the compression of another tool", word.word());
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
        }))
    }

    /// `plain`, encoded as a whole.
    pub fn encode(self, plain: &[u8]) -> Result<Vec<u8>> {
        let failed = |e| io("compressing", e);
        let mut encoder = self.encoder(Vec::with_capacity(plain.len() / 2))?;
        encoder.write_all(plain).map_err(failed)?;
        encoder.finish().map_err(failed)
    }

    /// How many of `bytes` are stored at least, and how many are likely to be: for a warning, not for a promise.
    pub fn stored_bytes(self, bytes: u64) -> (u64, u64) {
        match self.compression {
            Compression::None => (bytes - bytes / 10, bytes),
            Compression::Zstd(_) | Compression::Gzip(_) | Compression::Foreign(_) => (bytes / 20, bytes / 2),
        }
    }
}

/// See [`Codec::encoder`].
pub struct Encoder<W: Write>(Encoding<W>);

enum Encoding<W: Write> {
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Gzip(flate2::write::GzEncoder<W>),
    Plain(W),
}

impl<W: Write> Encoder<W> {
    /// Writes the end of the encoding, and gives the sink back.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Encoding::Zstd(encoder) => encoder.finish(),
            Encoding::Gzip(encoder) => encoder.finish(),
            Encoding::Plain(sink) => Ok(sink),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Encoding::Zstd(encoder) => encoder.write(bytes),
            Encoding::Gzip(encoder) => encoder.write(bytes),
            Encoding::Plain(sink) => sink.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Encoding::Zstd(encoder) => encoder.flush(),
            Encoding::Gzip(encoder) => encoder.flush(),
            Encoding::Plain(sink) => sink.flush(),
        }
    }
}

words! {
    /// What was done to the bytes of an object, whoever wrote it.
    pub enum Encoded {
        Plain => "none",
        Zstd => "zstd",
        Gzip => "gzip",
        Lz4 => "lz4",
        /// Snappy's framing format.
        Snappy => "snappy",
        S2 => "s2",
    }
}

impl From<ForeignCompression> for Encoded {
    fn from(word: ForeignCompression) -> Self {
        match word {
            ForeignCompression::Gzip | ForeignCompression::Pgzip => Self::Gzip,
            ForeignCompression::Snappy => Self::Snappy,
            ForeignCompression::Lz4 => Self::Lz4,
            ForeignCompression::S2 => Self::S2,
            ForeignCompression::Zstd => Self::Zstd,
        }
    }
}

impl Encoded {
    /// What the name of an object of ours says. Other tools' names may end in anything: their metadata says what it is.
    fn of(file_name: &str) -> Self {
        match file_name.rsplit('.').next() {
            Some("zst") => Self::Zstd,
            Some("gz") => Self::Gzip,
            _ => Self::Plain,
        }
    }
}

/// Decodes what comes from a source.
pub enum Decoder<R: Read> {
    Zstd(zstd::stream::read::Decoder<'static, io::BufReader<R>>),
    Gzip(Box<flate2::read::MultiGzDecoder<R>>),
    Lz4(Box<lz4::FrameReader<R>>),
    S2(Box<FrameReader<R>>),
    Plain(R),
}

impl<R: Read> Decoder<R> {
    /// `file_name`: the last part of the key of an object of ours.
    pub fn of(file_name: &str, source: R) -> io::Result<Self> {
        Self::new(Encoded::of(file_name), source)
    }

    pub fn new(encoded: Encoded, source: R) -> io::Result<Self> {
        Ok(match encoded {
            Encoded::Zstd => Self::Zstd(zstd::stream::read::Decoder::new(source)?),
            Encoded::Gzip => Self::Gzip(Box::new(flate2::read::MultiGzDecoder::new(source))),
            Encoded::Lz4 => Self::Lz4(Box::new(lz4::FrameReader::new(source))),
            Encoded::Snappy | Encoded::S2 => Self::S2(Box::new(FrameReader::new(source))),
            Encoded::Plain => Self::Plain(source),
        })
    }

    pub fn into_source(self) -> R {
        match self {
            Self::Zstd(decoder) => decoder.finish().into_inner(),
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Lz4(decoder) => decoder.into_inner(),
            Self::S2(decoder) => decoder.into_inner(),
            Self::Plain(source) => source,
        }
    }

    pub fn source(&mut self) -> &mut R {
        match self {
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Lz4(decoder) => decoder.get_mut(),
            Self::S2(decoder) => decoder.get_mut(),
            Self::Plain(source) => source,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Lz4(decoder) => decoder.read(buffer),
            Self::S2(decoder) => decoder.read(buffer),
            Self::Plain(source) => source.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_by_the_name_it_was_given() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for compression in [Compression::Zstd(3), Compression::Gzip(6), Compression::None] {
            let codec = Codec::new(compression);
            let mut encoder = codec.encoder(Vec::new()).unwrap();
            encoder.write_all(&text).unwrap();
            let stored = encoder.finish().unwrap();
            let name = format!("00000.bson{}", codec.suffix());
            let mut decoder = Decoder::of(&name, stored.as_slice()).unwrap();
            let mut read = Vec::new();
            decoder.read_to_end(&mut read).unwrap();
            assert_eq!(read, text, "{name}");
            assert!(decoder.into_source().is_empty(), "{name}");
        }
    }
}
