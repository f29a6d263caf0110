//! A wire to a server on which its positions lie in the past.
//!
//! The demo has a history of some days, made by real backups within seconds. What they store carries positions of the
//! oplog, so the clock of this process alone would not do. Between mongokeep and mongod stands this proxy: each
//! position that the server names is moved back by as much as the present of the process is, and each position that
//! mongokeep names is moved forth again. Several lengths follow one another, so that hours pass between two changes;
//! positions stay in order, and each one means the same entry for as long as the proxy runs.
//!
//! It must never touch anything but positions, the time of an entry, and its own address: what is backed up through it
//! is what the server holds.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result, io};

/// A position of an oplog is of this time at the earliest; anything else is no position.
const OLDEST: u32 = 1_000_000_000;
/// Of a message, which ends at 48 MB.
const MAX_MESSAGE: usize = 64 << 20;
const HEADER: usize = 16;
const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

/// From `from` on, positions are moved back by so many seconds.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Timestamp,
    behind: u32,
}

impl Stretch {
    /// Where it begins in the past.
    fn begin(self) -> Timestamp {
        Timestamp::new(self.from.t.saturating_sub(self.behind), self.from.i)
    }
}

/// How positions are moved; the last stretch goes on.
#[derive(Debug, Default)]
struct Stretches(Vec<Stretch>);

impl Stretches {
    fn is_position(at: Timestamp) -> bool {
        at.t >= OLDEST && at.t != u32::MAX
    }

    /// From the server's time to that of the past.
    fn back(&self, at: Timestamp) -> Timestamp {
        let stretch = self.0.iter().rev().find(|s| s.from <= at).or(self.0.first());
        match stretch.filter(|_| Self::is_position(at)) {
            Some(stretch) => Timestamp::new(at.t.saturating_sub(stretch.behind), at.i),
            None => at,
        }
    }

    /// From the past to the server's time. What lies in the hours between two stretches is where the second one begins.
    fn forth(&self, at: Timestamp) -> Timestamp {
        if !Self::is_position(at) {
            return at;
        }
        let Some(found) = self.0.iter().rposition(|s| s.begin() <= at).or(self.0.first().map(|_| 0)) else { return at };
        let moved = Timestamp::new(at.t.saturating_add(self.0[found].behind), at.i);
        match self.0.get(found + 1) {
            Some(next) => moved.min(next.from),
            None => moved,
        }
    }
}

/// The proxy before one server. Dropped, it closes its connections.
pub struct TimeMachine {
    stretches: Arc<RwLock<Stretches>>,
    address: SocketAddr,
    _work: JoinSet<()>,
}

impl TimeMachine {
    /// Stands before the server at `server` (`127.0.0.1:port`), `behind` seconds in the past.
    pub async fn before(server: &str, behind: u32) -> Result<Self> {
        let fail = |e| io(format_args!("the wire to {server}"), e);
        // Its address takes the place of the server's, byte for byte.
        let mut refused = Vec::new();
        let listener = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(fail)?;
            if listener.local_addr().map_err(fail)?.to_string().len() == server.len() {
                break listener;
            }
            refused.push(listener);
            if refused.len() > 100 {
                return Err(Error::new(ErrorKind::Failed, format!("no port as long as that of {server} is free")));
            }
        };
        let address = listener.local_addr().map_err(fail)?;
        let stretches = Arc::new(RwLock::new(Stretches(vec![Stretch { from: Timestamp::MIN, behind }])));
        let mut work = JoinSet::new();
        work.spawn(accept(listener, server.to_owned(), address.to_string(), Arc::clone(&stretches)));
        Ok(Self { stretches, address, _work: work })
    }

    /// Where mongokeep connects to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From the first entry after now on, positions are moved back by `behind` seconds only, which is less than before.
    /// `newest` asks the server for its newest position; nothing passes meanwhile.
    pub async fn step(&self, behind: u32, newest: impl Future<Output = Result<Timestamp>>) -> Result<()> {
        let mut stretches = self.stretches.write().await;
        let newest = newest.await?;
        // Nothing goes further back than what was said before: positions would lose their order.
        let behind = stretches.0.last().map_or(behind, |last| behind.min(last.behind));
        stretches.0.push(Stretch { from: Timestamp::new(newest.t, newest.i + 1), behind });
        Ok(())
    }
}

async fn accept(listener: TcpListener, server: String, own: String, stretches: Arc<RwLock<Stretches>>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (server, own, stretches) = (server.clone(), own.clone(), Arc::clone(&stretches));
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(&server).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let ask = |message: &mut [u8], stretches: &Stretches| move_positions(message, &|at| stretches.forth(at));
            let answer = |message: &mut [u8], stretches: &Stretches| {
                move_positions(message, &|at| stretches.back(at));
                replace(message, server.as_bytes(), own.as_bytes());
            };
            let asking = pump(near_in, far_out, &stretches, &ask);
            let answering = pump(far_in, near_out, &stretches, &answer);
            // Either end closes both.
            tokio::select! {
                _ = asking => {}
                _ = answering => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes message after message on, each changed in its place.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    stretches: &RwLock<Stretches>,
    change: &(dyn Fn(&mut [u8], &Stretches) + Send + Sync),
) -> std::io::Result<()> {
    let mut message = vec![0; HEADER];
    loop {
        message.resize(HEADER, 0);
        from.read_exact(&mut message).await?;
        let size =
            number(&message, 0).and_then(|n| usize::try_from(n).ok()).filter(|n| (HEADER..MAX_MESSAGE).contains(n));
        let Some(size) = size else { return Err(std::io::ErrorKind::InvalidData.into()) };
        message.resize(size, 0);
        from.read_exact(&mut message[HEADER..]).await?;
        change(&mut message, &*stretches.read().await);
        to.write_all(&message).await?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4)?.try_into().ok().map(i32::from_le_bytes)
}

fn replace(message: &mut [u8], old: &[u8], new: &[u8]) {
    let places: Vec<usize> = memchr::memmem::find_iter(message, old).collect();
    for at in places {
        message[at..at + old.len()].copy_from_slice(new);
    }
}

/// Changes the positions in the documents of a message. What cannot be understood stays as it is.
fn move_positions(message: &mut [u8], change: &dyn Fn(Timestamp) -> Timestamp) {
    let first = match number(message, 12) {
        // Flags, then one section: the command or its reply. Documents to insert are a section of their own.
        Some(OP_MSG) if message.get(HEADER + 4) == Some(&0) => Some(HEADER + 5),
        Some(OP_REPLY) => Some(HEADER + 20),
        Some(OP_QUERY) => {
            let name = message.get(HEADER + 4..).and_then(|rest| memchr::memchr(0, rest));
            name.map(|end| HEADER + 4 + end + 1 + 8)
        }
        _ => None,
    };
    if let Some(document) = first.and_then(|at| message.get_mut(at..)) {
        let _ = in_document(document, 0, change);
    }
}

/// Returns the size of the document at the beginning of `bytes`.
fn in_document(bytes: &mut [u8], depth: usize, change: &dyn Fn(Timestamp) -> Timestamp) -> Option<usize> {
    let size = usize::try_from(number(bytes, 0)?).ok().filter(|n| *n >= 5 && *n <= bytes.len())?;
    if depth > 100 {
        return Some(size);
    }
    let mut at = 4;
    // The second of an entry's own position, which stands before its time.
    let mut second = None;
    while at < size - 1 {
        let kind = bytes[at];
        let end = at + 1 + memchr::memchr(0, bytes.get(at + 1..size)?)?;
        let (is_wall, is_own) = (&bytes[at + 1..end] == b"wall", &bytes[at + 1..end] == b"ts");
        let value = end + 1;
        let length = |at| number(bytes, at).and_then(|n| usize::try_from(n).ok());
        let taken = match kind {
            0x01 | 0x12 => 8,
            0x02 | 0x0D | 0x0E => 4 + length(value)?,
            0x03 | 0x04 => in_document(bytes.get_mut(value..size)?, depth + 1, change)?,
            0x05 => 5 + length(value)?,
            0x06 | 0x0A | 0x7F | 0xFF => 0,
            0x07 => 12,
            0x08 => 1,
            0x09 => {
                let field = bytes.get_mut(value..value + 8)?;
                let millis = i64::from_le_bytes(field.try_into().ok()?);
                if let Some(second) = second.filter(|_| is_wall) {
                    let millis = i64::from(second) * 1_000 + millis.rem_euclid(1_000);
                    field.copy_from_slice(&millis.to_le_bytes());
                }
                8
            }
            0x0B => {
                let pattern = memchr::memchr(0, bytes.get(value..size)?)? + 1;
                pattern + memchr::memchr(0, bytes.get(value + pattern..size)?)? + 1
            }
            0x0C => 4 + length(value)? + 12,
            0x0F => length(value)?,
            0x10 => 4,
            0x11 => {
                let field = bytes.get_mut(value..value + 8)?;
                let packed = u64::from_le_bytes(field.try_into().ok()?);
                let moved = change(Timestamp::new((packed >> 32) as u32, packed as u32));
                second = second.or(is_own.then_some(moved.t));
                field.copy_from_slice(&(u64::from(moved.t) << 32 | u64::from(moved.i)).to_le_bytes());
                8
            }
            0x13 => 16,
            _ => return None,
        };
        at = value + taken;
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, Document, doc};

    use super::*;

    fn stretches() -> Stretches {
        let of = |t, i, behind| Stretch { from: Timestamp::new(t, i), behind };
        Stretches(vec![of(0, 0, 10_000), of(1_800_000_005, 3, 4_000), of(1_800_000_005, 7, 0)])
    }

    #[test]
    fn positions_keep_their_order_and_come_back() {
        let stretches = stretches();
        let all: Vec<Timestamp> =
            (1_800_000_000..1_800_000_010).flat_map(|t| (1..10).map(move |i| Timestamp::new(t, i))).collect();
        let moved: Vec<Timestamp> = all.iter().map(|at| stretches.back(*at)).collect();
        assert!(moved.is_sorted_by(|a, b| a < b), "{moved:?}");
        for (at, moved) in all.iter().zip(&moved) {
            assert_eq!(stretches.forth(*moved), *at);
        }
        assert_eq!(moved[0], Timestamp::new(1_799_990_000, 1));
        assert_eq!(stretches.back(Timestamp::new(1_800_000_009, 1)), Timestamp::new(1_800_000_009, 1));
        // Between two stretches lies nothing: what follows is where the second one begins.
        assert_eq!(stretches.forth(Timestamp::new(1_799_995_000, 1)), Timestamp::new(1_800_000_005, 3));
        for none in [Timestamp::MIN, Timestamp::new(0, 1), Timestamp::MAX] {
            assert_eq!((stretches.back(none), stretches.forth(none)), (none, none));
        }
    }

    fn message(code: i32, before: &[u8], document: &Document) -> Vec<u8> {
        let body = [before, &document.to_vec().unwrap()].concat();
        let mut message = Vec::new();
        for number in [i32::try_from(HEADER + body.len()).unwrap(), 1, 0, code] {
            message.extend(number.to_le_bytes());
        }
        message.extend(body);
        message
    }

    #[test]
    fn only_positions_in_a_message_are_moved() {
        let ts = |time, increment| Bson::Timestamp(mongodb::bson::Timestamp { time, increment });
        let wall = |millis| Bson::DateTime(mongodb::bson::DateTime::from_millis(millis));
        let document = |t: u32| {
            let ms = i64::from(t) * 1_000 + 250;
            doc! {
                "a": 1, "text": "x", "n": 1.5, "bin": Bson::Binary(mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![17; 40] }),
                "cursor": {"batch": [{"ts": ts(t, 2), "wall": wall(ms), "o": {"at": wall(ms_kept()), "id": mongodb::bson::oid::ObjectId::from_bytes([17; 12])}}]},
                "none": ts(0, 0), "code": Bson::JavaScriptCode("x".into()), "re": Bson::RegularExpression(mongodb::bson::Regex { pattern: "a".try_into().unwrap(), options: "i".try_into().unwrap() }),
                "operationTime": ts(t, 1), "d": Bson::Decimal128(mongodb::bson::Decimal128::from_bytes([17; 16])), "null": Bson::Null, "long": 17_i64,
            }
        };
        fn ms_kept() -> i64 {
            1_800_000_001_000
        }
        let stretches = stretches();
        for (code, before) in [
            (OP_MSG, vec![0; 5]),
            (OP_REPLY, vec![0; 20]),
            (OP_QUERY, [&[0; 4][..], b"admin.$cmd\0", &[0; 8]].concat()),
        ] {
            let mut bytes = message(code, &before, &document(1_800_000_001));
            move_positions(&mut bytes, &|at| stretches.back(at));
            assert!(bytes == message(code, &before, &document(1_799_990_001)), "{code}");
            move_positions(&mut bytes, &|at| stretches.forth(at));
            assert!(bytes == message(code, &before, &document(1_800_000_001)), "{code}");
        }
        // Anything that is no message stays.
        let mut bytes = vec![0xff; 40];
        move_positions(&mut bytes, &|_| Timestamp::MIN);
        assert_eq!(bytes, vec![0xff; 40]);
    }
}
