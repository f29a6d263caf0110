//! How the bytes of an object are encoded: the one place that names compressors.
//!
//! A writer is handed a [`Codec`]; a reader finds in an object's name which one it was. Nobody else asks what it is, so that
//! encryption comes in here and nowhere else.

use std::io::{self, Read, Write};

use crate::domain::backup::Compression;
use crate::error::{Result, io};

/// What a writer does to the bytes of each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    compression: Compression,
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
        }))
    }

    /// How many of `bytes` are stored at least, and how many are likely to be: for a warning, not for a promise.
    pub fn stored_bytes(self, bytes: u64) -> (u64, u64) {
        match self.compression {
            Compression::None => (bytes - bytes / 10, bytes),
            Compression::Zstd(_) | Compression::Gzip(_) => (bytes / 20, bytes / 2),
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

/// Decodes what comes from a source, as the name of its object says.
pub enum Decoder<R: Read> {
    Zstd(zstd::stream::read::Decoder<'static, io::BufReader<R>>),
    Gzip(Box<flate2::read::MultiGzDecoder<R>>),
    Plain(R),
}

impl<R: Read> Decoder<R> {
    /// `file_name`: the last part of the object's key.
    pub fn of(file_name: &str, source: R) -> io::Result<Self> {
        Ok(match file_name.rsplit('.').next() {
            Some("zst") => Self::Zstd(zstd::stream::read::Decoder::new(source)?),
            Some("gz") => Self::Gzip(Box::new(flate2::read::MultiGzDecoder::new(source))),
            _ => Self::Plain(source),
        })
    }

    pub fn into_source(self) -> R {
        match self {
            Self::Zstd(decoder) => decoder.finish().into_inner(),
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Plain(source) => source,
        }
    }

    pub fn source(&mut self) -> &mut R {
        match self {
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Plain(source) => source,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
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
