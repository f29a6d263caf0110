//! How the bytes of an object are encoded: compressed, and then encrypted. The one place that names either.
//!
//! A writer is handed a [`Codec`]; a reader finds in an object's name which one it was, or is told by the metadata of the
//! tool that wrote it. Nobody else asks what it is. An encrypted object is an age file by itself, so that it can be written
//! again alone, and opened with stock tools.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use age::stream::{StreamReader, StreamWriter};
use age::x25519;

use super::keys::Keys;
use super::lz4;
use super::s2::FrameReader;
use crate::domain::backup::{Compression, ForeignCompression};
use crate::domain::encryption::{Encryption, Recipient};
use crate::domain::words::words;
use crate::error::{Error, ErrorKind, Result, io};

/// What a writer does to the bytes of each object. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    compression: Compression,
    /// Nobody: it is not encrypted.
    to: Arc<[Recipient]>,
}

/// What the name of an encrypted object ends in.
pub const ENCRYPTED: &str = ".age";

/// What the name of an object may end in. The longest first.
const SUFFIXES: [&str; 5] = [".zst.age", ".gz.age", ENCRYPTED, ".zst", ".gz"];

/// What the name of an encoded object ends in, or nothing, as [`Codec::suffix`] gives it.
pub fn suffix_of(file_name: &str) -> &'static str {
    SUFFIXES.into_iter().find(|suffix| file_name.ends_with(suffix)).unwrap_or("")
}

/// Whether an object of this name is encrypted.
pub fn is_encrypted(file_name: &str) -> bool {
    file_name.ends_with(ENCRYPTED)
}

impl Codec {
    pub fn new(compression: Compression) -> Self {
        Self { compression, to: Arc::default() }
    }

    /// The same, encrypted; `None`: as it is.
    #[must_use]
    pub fn encrypted_to(mut self, encryption: Option<&Encryption>) -> Self {
        self.to = encryption.map(|encryption| encryption.recipients.as_slice().into()).unwrap_or_default();
        self
    }

    /// The same without compression, for small objects.
    #[must_use]
    pub fn uncompressed(&self) -> Self {
        Self { compression: Compression::None, to: Arc::clone(&self.to) }
    }

    /// What the name of an object ends in, dot included (`.zst`, `.zst.age`), or nothing.
    pub fn suffix(&self) -> &'static str {
        let compressed = self.compression.suffix();
        if self.to.is_empty() {
            return compressed;
        }
        // One that is not there is written by nobody (see `encoder`).
        let is_both = |suffix: &&str| suffix.strip_suffix(ENCRYPTED) == Some(compressed);
        SUFFIXES.into_iter().find(is_both).unwrap_or(ENCRYPTED)
    }

    /// Encodes what is written to it into `sink`, from [`Encoder::finish`] on completely.
    pub fn encoder<W: Write>(&self, sink: W) -> Result<Encoder<W>> {
        let sink = Sealing::new(&self.to, &[], sink)?;
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
    pub fn encode(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let failed = |e| io("compressing", e);
        let mut encoder = self.encoder(Vec::with_capacity(plain.len() / 2))?;
        encoder.write_all(plain).map_err(failed)?;
        encoder.finish().map_err(failed)
    }

    /// How many of `bytes` are stored at least, and how many are likely to be: for a warning, not for a promise.
    pub fn stored_bytes(&self, bytes: u64) -> (u64, u64) {
        match self.compression {
            Compression::None => (bytes - bytes / 10, bytes),
            Compression::Zstd(_) | Compression::Gzip(_) | Compression::Foreign(_) => (bytes / 20, bytes / 2),
        }
    }
}

/// See [`Codec::encoder`].
pub struct Encoder<W: Write>(Encoding<W>);

enum Encoding<W: Write> {
    Zstd(zstd::stream::write::Encoder<'static, Sealing<W>>),
    Gzip(flate2::write::GzEncoder<Sealing<W>>),
    Plain(Sealing<W>),
}

/// What stands behind the compressor.
enum Sealing<W: Write> {
    Plain(W),
    Age(Box<StreamWriter<W>>),
}

impl<W: Write> Sealing<W> {
    /// Encrypts to `recipients`, if there are any. What is in `besides` stands in the header, too: it can hold what everybody
    /// may read.
    fn new(recipients: &[Recipient], besides: &[&dyn age::Recipient], sink: W) -> Result<Self> {
        if recipients.is_empty() {
            return Ok(Self::Plain(sink));
        }
        let failed = |why: String| Error::new(ErrorKind::Internal, format!("encrypting: {why}"));
        let keys = recipients.iter().map(|recipient| recipient.as_str().parse::<x25519::Recipient>());
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|why| failed(why.to_owned()))?;
        let all = besides.iter().copied().chain(keys.iter().map(|key| key as &dyn age::Recipient));
        let encryptor = age::Encryptor::with_recipients(all).map_err(|e| failed(e.to_string()))?;
        Ok(Self::Age(Box::new(encryptor.wrap_output(sink).map_err(|e| io("starting the encryption", e))?)))
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(sink) => sink.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

/// `bytes`, encrypted as one object to `recipients`, of whom there is one at least; `besides` stands in its header.
pub(super) fn seal_with(recipients: &[Recipient], besides: &dyn age::Recipient, bytes: &[u8]) -> Result<Vec<u8>> {
    let failed = |e| io("encrypting", e);
    let mut sealing = Sealing::new(recipients, &[besides], Vec::with_capacity(bytes.len() + 4096))?;
    sealing.write_all(bytes).map_err(failed)?;
    sealing.finish().map_err(failed)
}

impl<W: Write> Encoder<W> {
    /// Writes the end of the encoding, and gives the sink back.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Encoding::Zstd(encoder) => encoder.finish()?.finish(),
            Encoding::Gzip(encoder) => encoder.finish()?.finish(),
            Encoding::Plain(sink) => sink.finish(),
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
        match file_name.strip_suffix(ENCRYPTED).unwrap_or(file_name).rsplit('.').next() {
            Some("zst") => Self::Zstd,
            Some("gz") => Self::Gzip,
            _ => Self::Plain,
        }
    }
}

/// Decodes what comes from a source.
pub struct Decoder<R: Read>(Decoding<R>);

enum Decoding<R: Read> {
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Opening<R>>>),
    Gzip(Box<flate2::read::MultiGzDecoder<Opening<R>>>),
    Lz4(Box<lz4::FrameReader<Opening<R>>>),
    S2(Box<FrameReader<Opening<R>>>),
    Plain(Opening<R>),
}

impl<R: Read> Decoder<R> {
    /// `file_name`: the last part of the key of an object of ours. `keys` open it if it is encrypted.
    pub fn of(file_name: &str, source: R, keys: &Keys) -> io::Result<Self> {
        let source = if is_encrypted(file_name) { Opening::age(source, keys)? } else { Opening::Plain(source) };
        Self::decoding(Encoded::of(file_name), source)
    }

    /// What another tool wrote, which encrypts nothing.
    pub fn new(encoded: Encoded, source: R) -> io::Result<Self> {
        Self::decoding(encoded, Opening::Plain(source))
    }

    fn decoding(encoded: Encoded, source: Opening<R>) -> io::Result<Self> {
        Ok(Self(match encoded {
            Encoded::Zstd => Decoding::Zstd(zstd::stream::read::Decoder::new(source)?),
            Encoded::Gzip => Decoding::Gzip(Box::new(flate2::read::MultiGzDecoder::new(source))),
            Encoded::Lz4 => Decoding::Lz4(Box::new(lz4::FrameReader::new(source))),
            Encoded::Snappy | Encoded::S2 => Decoding::S2(Box::new(FrameReader::new(source))),
            Encoded::Plain => Decoding::Plain(source),
        }))
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoding::Zstd(decoder) => decoder.read(buffer),
            Decoding::Gzip(decoder) => decoder.read(buffer),
            Decoding::Lz4(decoder) => decoder.read(buffer),
            Decoding::S2(decoder) => decoder.read(buffer),
            Decoding::Plain(source) => source.read(buffer),
        }
    }
}

/// What stands before the decompressor.
enum Opening<R: Read> {
    Plain(R),
    Age(Box<StreamReader<BufReader<R>>>),
}

impl<R: Read> Opening<R> {
    fn age(source: R, keys: &Keys) -> io::Result<Self> {
        let wrong = |e: age::DecryptError| match e {
            age::DecryptError::Io(e) => e,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        };
        let decryptor = age::Decryptor::new_buffered(BufReader::new(source)).map_err(wrong)?;
        Ok(Self::Age(Box::new(decryptor.decrypt(keys.identities()).map_err(wrong)?)))
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Age(stream) => stream.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::artifact::keys;

    const ALL: [Compression; 3] = [Compression::Zstd(3), Compression::Gzip(6), Compression::None];

    fn decoded(name: &str, stored: &[u8], keys: &Keys) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Decoder::of(name, stored, keys)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    /// A payload of age is cut into chunks of 64 KiB, of which the last one is marked.
    #[test]
    fn what_was_encoded_is_decoded_by_the_name_it_was_given() {
        let (keys, encryption) = keys::some();
        for size in [0_u32, 1, 16 << 10, (16 << 10) + 1, 32 << 10, 100_000] {
            let text: Vec<u8> = (0..size).flat_map(u32::to_le_bytes).collect();
            for compression in ALL {
                for encryption in [None, Some(&encryption)] {
                    let codec = Codec::new(compression).encrypted_to(encryption);
                    let stored = codec.encode(&text).unwrap();
                    let name = format!("00000.bson{}", codec.suffix());
                    assert_eq!(suffix_of(&name), codec.suffix());
                    assert_eq!(is_encrypted(&name), encryption.is_some());
                    assert_eq!(decoded(&name, &stored, &keys).unwrap(), text, "{name}");
                }
            }
        }
    }

    #[test]
    fn names_say_what_was_done() {
        let (_, encryption) = keys::some();
        let suffix = |compression, encryption| Codec::new(compression).encrypted_to(encryption).suffix();
        assert_eq!(ALL.map(|compression| suffix(compression, None)), [".zst", ".gz", ""]);
        assert_eq!(ALL.map(|compression| suffix(compression, Some(&encryption))), [".zst.age", ".gz.age", ".age"]);
        assert_eq!(Codec::new(Compression::Zstd(1)).encrypted_to(Some(&encryption)).uncompressed().suffix(), ".age");
    }

    #[test]
    fn every_recipient_opens_it_and_nobody_else() {
        let ((one, mut both), (two, other), (stranger, _)) = (keys::some(), keys::some(), keys::some());
        both.recipients.extend(other.recipients);
        let stored = Codec::new(Compression::Zstd(1)).encrypted_to(Some(&both)).encode(b"secret").unwrap();
        for keys in [&one, &two] {
            assert_eq!(decoded("a.zst.age", &stored, keys).unwrap(), b"secret");
        }
        for keys in [&stranger, &Keys::default()] {
            assert!(decoded("a.zst.age", &stored, keys).is_err());
        }
        assert!(!stored.windows(6).any(|window| window == b"secret"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_encrypted_comes_back_and_no_changed_byte_does(
            size in 0_usize..200_000, seed: u64, at: prop::sample::Index, flip in 1_u8..=255, cut: bool,
        ) {
            let (keys, encryption) = keys::some();
            let mut state = seed | 1;
            let text: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            }).take(size).collect();
            let stored = Codec::new(Compression::None).encrypted_to(Some(&encryption)).encode(&text).unwrap();
            prop_assert_eq!(&decoded("a.age", &stored, &keys).unwrap(), &text);
            let mut broken = stored.clone();
            let at = at.index(stored.len());
            if cut { broken.truncate(at) } else { broken[at] ^= flip }
            prop_assert!(decoded("a.age", &broken, &keys).is_err());
        }
    }
}
