//! Gzip that can be entered in its middle.
//!
//! While a stream is read for the first time, points are noted at which its decompression can begin again: between two
//! blocks of DEFLATE all that is needed is a few bits and the 32 KiB before. What is read from a point on is not covered by the
//! checksum of the stream, so that whoever does it needs another one.

use std::collections::VecDeque;
use std::io::{self, Read};

use crc32fast::Hasher;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress};

/// As far back as DEFLATE refers.
const WINDOW: usize = 32 << 10;
/// What is decompressed in one go, with the window before it. A power of two: it is written round and round.
const BUFFER: usize = 2 * WINDOW;
const INPUT: usize = 64 << 10;
/// With 32 KiB each, points take 16 MiB at most: when there are more, every second one goes.
const MOST_POINTS: usize = 512;
/// Decompressed bytes between two points, at first.
const SPACING: u64 = 4 << 20;
/// A name or a comment in a header is shorter.
const HEADER_LIMIT: u64 = 64 << 10;

/// A position at which decompressing can begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Compressed bytes before it.
    pub stored: u64,
    /// Decompressed bytes before it.
    pub plain: u64,
    bits: u8,
    bit_count: u8,
    window: Box<[u8]>,
}

/// The points of one stream, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Points {
    points: VecDeque<Point>,
    /// How often every second one went.
    halved: u32,
}

impl Points {
    /// The last point at or before the decompressed byte `plain`; `None`: only the beginning is.
    pub fn before(&self, plain: u64) -> Option<&Point> {
        let after = self.points.partition_point(|point| point.plain <= plain);
        self.points.get(after.checked_sub(1)?)
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    fn wants(&self, plain: u64) -> bool {
        let last = self.points.back().map_or(0, |point| point.plain);
        plain.saturating_sub(last) >= SPACING << self.halved
    }

    fn add(&mut self, point: Point) {
        if self.points.len() == MOST_POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                !keep
            });
            self.halved += 1;
            if !self.wants(point.plain) {
                return;
            }
        }
        self.points.push_back(point);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Of the first member, or of one more.
    Header {
        first: bool,
    },
    Body,
    Trailer,
    End,
}

/// Decompresses gzip, in one member or several.
pub struct Gunzip<R: Read> {
    source: R,
    input: Box<[u8]>,
    /// What of `input` is still to be used.
    unused: std::ops::Range<usize>,
    /// Compressed bytes that were used.
    stored: u64,
    plain: u64,
    stage: Stage,
    inflater: Box<DecompressorOxide>,
    buffer: Box<[u8]>,
    /// Where `buffer` is written next.
    at: usize,
    /// What of `buffer` was not handed over yet.
    ready: std::ops::Range<usize>,
    /// Of the present member; `None`: it was entered in its middle.
    checksum: Option<Hasher>,
    /// Bytes of the present member.
    member: u64,
    points: Option<Points>,
}

impl<R: Read> Gunzip<R> {
    /// From the beginning.
    pub fn new(source: R) -> Self {
        Self {
            source,
            input: vec![0; INPUT].into(),
            unused: 0..0,
            stored: 0,
            plain: 0,
            stage: Stage::Header { first: true },
            inflater: Box::default(),
            buffer: vec![0; BUFFER].into(),
            at: 0,
            ready: 0..0,
            checksum: Some(Hasher::new()),
            member: 0,
            points: None,
        }
    }

    /// The same, with points noted on the way.
    pub fn with_points(source: R) -> Self {
        Self { points: Some(Points::default()), ..Self::new(source) }
    }

    /// `source`: the compressed bytes from `point` on.
    pub fn from_point(source: R, point: &Point) -> Self {
        let state =
            BlockBoundaryState { num_bits: point.bit_count, bit_buf: point.bits, ..BlockBoundaryState::default() };
        let mut gunzip = Self {
            stored: point.stored,
            plain: point.plain,
            stage: Stage::Body,
            inflater: Box::new(DecompressorOxide::from_block_boundary_state(&state)),
            checksum: None,
            ..Self::new(source)
        };
        gunzip.buffer[..point.window.len()].copy_from_slice(&point.window);
        gunzip.at = point.window.len();
        gunzip
    }

    /// The points that were noted.
    pub fn into_points(self) -> Points {
        self.points.unwrap_or_default()
    }

    /// Reads more, if nothing is left; whether there is something.
    fn fill(&mut self) -> io::Result<bool> {
        while self.unused.is_empty() {
            match self.source.read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(n) => self.unused = 0..n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn byte(&mut self) -> io::Result<u8> {
        if !self.fill()? {
            return Err(ends_early());
        }
        let byte = self.input[self.unused.start];
        self.unused.start += 1;
        self.stored += 1;
        Ok(byte)
    }

    fn le_u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    fn header(&mut self, first: bool) -> io::Result<()> {
        if !first && !self.fill()? {
            self.stage = Stage::End;
            return Ok(());
        }
        let begin = self.stored;
        if [self.byte()?, self.byte()?, self.byte()?] != [0x1f, 0x8b, 8] {
            return Err(broken(if first { "it is not gzip" } else { "something else follows its end" }));
        }
        let flags = self.byte()?;
        for _ in 0..6 {
            self.byte()?;
        }
        if flags & 4 != 0 {
            for _ in 0..u16::from_le_bytes([self.byte()?, self.byte()?]) {
                self.byte()?;
            }
        }
        for flag in [8, 16] {
            while flags & flag != 0 && self.byte()? != 0 {
                if self.stored - begin > HEADER_LIMIT {
                    return Err(broken("its header has no end"));
                }
            }
        }
        if flags & 2 != 0 {
            self.byte()?;
            self.byte()?;
        }
        *self.inflater = DecompressorOxide::default();
        (self.checksum, self.member) = (Some(Hasher::new()), 0);
        self.stage = Stage::Body;
        Ok(())
    }

    fn body(&mut self) -> io::Result<()> {
        let flags =
            TINFL_FLAG_HAS_MORE_INPUT | if self.points.is_some() { TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY } else { 0 };
        let input = &self.input[self.unused.clone()];
        let (status, used, made) = decompress(&mut self.inflater, input, &mut self.buffer, self.at, flags);
        self.unused.start += used;
        self.stored += used as u64;
        self.plain += made as u64;
        self.member += made as u64;
        self.ready = self.at..self.at + made;
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.buffer[self.ready.clone()]);
        }
        self.at = (self.at + made) % BUFFER;
        match status {
            TINFLStatus::Done => self.stage = Stage::Trailer,
            TINFLStatus::BlockBoundary => self.note(),
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput => {
                if made == 0 && !self.fill()? {
                    return Err(ends_early());
                }
            }
            _ => return Err(broken("its compressed data makes no sense")),
        }
        Ok(())
    }

    /// Between two blocks.
    fn note(&mut self) {
        let Some(points) = self.points.as_mut().filter(|points| points.wants(self.plain)) else { return };
        let Some(state) = self.inflater.block_boundary_state() else { return };
        let length = usize::try_from(self.member).map_or(WINDOW, |member| member.min(WINDOW));
        let from = (self.at + BUFFER - length) % BUFFER;
        let window = (0..length).map(|n| self.buffer[(from + n) % BUFFER]).collect();
        let (bits, bit_count) = (state.bit_buf, state.num_bits);
        points.add(Point { stored: self.stored, plain: self.plain, bits, bit_count, window });
    }

    fn trailer(&mut self) -> io::Result<()> {
        let (checksum, length) = (self.le_u32()?, self.le_u32()?);
        if let Some(found) = self.checksum.take() {
            if found.finalize() != checksum {
                return Err(broken("the checksum of gzip does not match"));
            }
            if self.member & u64::from(u32::MAX) != u64::from(length) {
                return Err(broken("its length is not the one that gzip noted"));
            }
        }
        self.stage = Stage::Header { first: false };
        Ok(())
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn ends_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within its compressed data")
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !out.is_empty() {
            match self.stage {
                Stage::Header { first } => self.header(first)?,
                Stage::Body => self.body()?,
                Stage::Trailer => self.trailer()?,
                Stage::End => return Ok(0),
            }
        }
        let n = out.len().min(self.ready.len());
        out[..n].copy_from_slice(&self.buffer[self.ready.start..self.ready.start + n]);
        self.ready.start += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of odd sizes.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 7 % 9973 + 1;
            let n = self.1.min(out.len()).min(self.0.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    /// Text of which some can be compressed, some not, and some refers far back.
    fn text(size: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut text: Vec<u8> = Vec::with_capacity(size + 70_000);
        while text.len() < size {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (kind, far) = (state >> 60, (state >> 20) as usize);
            match kind {
                0..=5 if text.len() > 40_000 => {
                    let from = text.len() - 1 - far % 32_000;
                    let n = (far >> 16) % 500;
                    let again: Vec<u8> = text[from..(from + n).min(text.len())].to_vec();
                    text.extend(again);
                }
                6..=9 => text.extend(std::iter::repeat_n(far as u8, far % 3000)),
                _ => text.extend_from_slice(&state.to_le_bytes()),
            }
        }
        text.truncate(size);
        text
    }

    fn gzipped(text: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_stream_is_entered_at_each_of_its_points() {
        for level in [0, 1, 6] {
            let text = text(30 << 20, u64::from(level) + 3);
            let stored = gzipped(&text, level);
            let mut gunzip = Gunzip::with_points(Pieces(&stored, 5));
            let mut plain = Vec::new();
            gunzip.read_to_end(&mut plain).unwrap();
            assert!(plain == text, "level {level}");
            let points = gunzip.into_points();
            // Who compresses in a hurry makes few blocks, and long ones.
            let least = if level == 1 { 1 } else { 5 };
            assert!((least..=8).contains(&points.len()), "level {level}: {} points", points.len());
            for point in &points.points {
                let from = usize::try_from(point.stored).unwrap();
                let mut rest = Vec::new();
                Gunzip::from_point(Pieces(&stored[from..], 77), point).read_to_end(&mut rest).unwrap();
                assert!(rest == text[usize::try_from(point.plain).unwrap()..], "level {level}, {}", point.plain);
                assert_eq!(points.before(point.plain), Some(point));
            }
            assert_eq!(points.before(100), None);
        }
    }

    #[test]
    fn points_are_thinned_out_and_stay_in_order() {
        let mut points = Points::default();
        for n in 1..=4000_u64 {
            let plain = n * SPACING;
            if points.wants(plain) {
                points.add(Point { stored: n, plain, bits: 0, bit_count: 0, window: Box::default() });
            }
            assert!(points.len() <= MOST_POINTS);
        }
        let at: Vec<u64> = points.points.iter().map(|point| point.plain / SPACING).collect();
        assert!(
            at.len() > MOST_POINTS / 4 && at.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 16),
            "{at:?}"
        );
    }

    #[test]
    fn members_follow_each_other_and_nothing_else_does() {
        let mut stored = gzipped(b"one, ", 6);
        stored.extend(gzipped(b"two", 1));
        let mut plain = String::new();
        Gunzip::new(&stored[..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "one, two");
        stored.extend(b"three");
        assert_eq!(
            Gunzip::new(&stored[..]).read_to_end(&mut Vec::new()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_cut_or_changed_never_comes_back_as_good(
            size in 0_usize..150_000, seed: u64, level in 0_u32..10, at: prop::sample::Index, flip in 1_u8..=255, cut: bool, step in 1_usize..9000,
        ) {
            let text = text(size, seed);
            let stored = gzipped(&text, level);
            let mut plain = Vec::new();
            Gunzip::with_points(Pieces(&stored, step)).read_to_end(&mut plain).unwrap();
            prop_assert!(plain == text);
            let mut broken = stored.clone();
            let at = at.index(stored.len());
            if cut { broken.truncate(at) } else { broken[at] ^= flip }
            let mut plain = Vec::new();
            // Some bits say nothing of the contents: the time in the header, what fills up the last byte.
            if Gunzip::with_points(Pieces(&broken, step)).read_to_end(&mut plain).is_ok() {
                prop_assert!(!cut && plain == text);
            }
        }
    }
}
