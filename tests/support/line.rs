//! A long line to a server: what is sent arrives later, and no more than so many bytes a second go through, over all
//! connections together. Each direction is a line of its own.
//!
//! As on a real one, bytes queue behind each other, and any number of them may be under way.

// Every test program uses another part of this.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// What waits for its turn to be sent, so that the line has no gaps; far less than is under way.
const BACKLOG: Duration = Duration::from_millis(8);
const CHUNK: usize = 64 << 10;
/// Chunks under way of one connection: 1 GiB, more than any line here holds.
const UNDER_WAY: usize = 1 << 14;

/// Stops when dropped.
pub struct Line {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    one_way: Duration,
    up: Way,
    down: Way,
    connections: AtomicUsize,
}

struct Way {
    bytes_per_second: f64,
    /// When what was handed over so far is sent.
    free: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Way {
    fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, free: Mutex::new(Instant::now()), bytes: AtomicU64::new(0) }
    }

    /// When so many bytes more will have been sent.
    fn send(&self, bytes: usize) -> Instant {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut free = self.free.lock().unwrap();
        *free = (*free).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        *free
    }
}

impl Line {
    pub async fn start(server: SocketAddr, bytes_per_second: f64, round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            one_way: round_trip / 2,
            up: Way::new(bytes_per_second),
            down: Way::new(bytes_per_second),
            connections: AtomicUsize::new(0),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move { shared.serve(client).await });
                }
            }
        });
        Self { address, shared, task }
    }

    /// Bytes from the client.
    pub fn sent(&self) -> u64 {
        self.shared.up.bytes.load(Ordering::Relaxed)
    }

    /// Bytes from the server.
    pub fn received(&self) -> u64 {
        self.shared.down.bytes.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn serve(&self, client: TcpStream) {
        // What a connection needs to come about.
        tokio::time::sleep(self.one_way * 2).await;
        let Ok(server) = TcpStream::connect(self.server).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(self.carry(&self.up, from_client, to_server), self.carry(&self.down, from_server, to_client),);
    }

    async fn carry(&self, way: &Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
        let read = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(CHUNK);
                match from.read_buf(&mut (&mut buffer).limit(CHUNK)).await {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
                let chunk = buffer.split().freeze();
                let sent = way.send(chunk.len());
                if sender.send((sent + self.one_way, chunk)).await.is_err() {
                    return;
                }
                sleep_until(sent - BACKLOG).await;
            }
        };
        let write = async move {
            while let Some((arrives, chunk)) = under_way.recv().await {
                sleep_until(arrives).await;
                if to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        };
        tokio::join!(read, write);
    }
}
