//! A TCP proxy on 127.0.0.1 that does to connections what networks and servers do to them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to one connection.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is closed as soon as it is open.
    Refuse,
    /// It is closed after so many bytes from the client.
    CutRequest(usize),
    /// It is closed after so many bytes from the server.
    CutAnswer(usize),
    /// The first request whose first line begins with `.0` and contains `.1` reaches the server; its answer is lost.
    LoseAnswer(&'static str, &'static str),
    /// This is what the server seems to say to the first request.
    Answer(String),
    /// Nothing is ever said.
    Stall,
}

/// Stops when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    faults: Mutex<VecDeque<Fault>>,
    /// Faults that happened.
    connections: AtomicUsize,
    from_client: AtomicU64,
    from_server: AtomicU64,
    /// Nothing goes through, in either direction.
    frozen: watch::Sender<bool>,
    /// Bytes in either direction until nothing does any more.
    until_frozen: AtomicU64,
    /// How many milliseconds each 64 KiB take at least.
    slowness: AtomicU64,
    /// How often all connections were cut.
    cuts: watch::Sender<usize>,
}

impl Proxy {
    /// The first connections meet `faults`, one each; all others meet none.
    pub async fn start(server: SocketAddr, faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            faults: Mutex::new(faults.into_iter().collect()),
            connections: AtomicUsize::new(0),
            from_client: AtomicU64::new(0),
            from_server: AtomicU64::new(0),
            frozen: watch::Sender::new(false),
            until_frozen: AtomicU64::new(u64::MAX),
            slowness: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    let fault = shared.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move { shared.serve(client, fault).await });
                }
            }
        });
        Self { address, shared, task }
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Those that went on to the server.
    pub fn bytes_from_client(&self) -> u64 {
        self.shared.from_client.load(Ordering::SeqCst)
    }

    pub fn bytes_from_server(&self) -> u64 {
        self.shared.from_server.load(Ordering::SeqCst)
    }

    /// From now on nothing goes wrong.
    #[allow(dead_code)]
    pub fn heal(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// From now on nothing goes through, and no connection ends; `false` ends that.
    #[allow(dead_code)]
    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// From now on each 64 KiB of a connection take so many milliseconds at least.
    #[allow(dead_code)]
    pub fn slow_down(&self, milliseconds: u64) {
        self.shared.slowness.store(milliseconds, Ordering::SeqCst);
    }

    /// Nothing goes through when so many bytes have gone through from now on, in either direction.
    #[allow(dead_code)]
    pub fn freeze_after(&self, bytes: u64) {
        self.shared.until_frozen.store(bytes, Ordering::SeqCst);
    }

    #[allow(dead_code)]
    pub fn is_frozen(&self) -> bool {
        *self.shared.frozen.borrow()
    }

    /// Closes all connections that there are. The next ones meet `faults`.
    #[allow(dead_code)]
    pub fn cut(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
        self.shared.cuts.send_modify(|n| *n += 1);
    }

    /// Every fault has met a connection.
    pub fn is_spent(&self) -> bool {
        self.shared.faults.lock().unwrap().is_empty()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream, fault: Fault) {
        match &fault {
            Fault::Refuse => return,
            Fault::Stall => {
                // Reads, so that no buffer that fills up gives it away.
                let mut buffer = [0; 1 << 16];
                while client.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
                return;
            }
            Fault::Answer(answer) => {
                let mut head = Vec::new();
                let mut buffer = [0; 1 << 16];
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match client.read(&mut buffer).await {
                        Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                let _ = client.write_all(answer.as_bytes()).await;
                let _ = client.shutdown().await;
                // The rest of the request is taken, lest a reset overtake the answer.
                while client.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
                return;
            }
            _ => {}
        }
        let mut cuts = self.cuts.subscribe();
        let Ok(server) = TcpStream::connect(self.server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let losing = Mutex::new(false);
        // Whichever side ends, both are closed.
        tokio::select! {
            () = self.upstream(from_client, to_server, &fault, &losing) => {}
            () = self.downstream(from_server, to_client, &fault, &losing) => {}
            _ = cuts.changed() => {}
        }
    }

    /// Counts what is about to go through, and slows it down.
    async fn passes(&self, bytes: usize) {
        let slowness = self.slowness.load(Ordering::SeqCst) * bytes as u64 / (1 << 16);
        if slowness > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(slowness)).await;
        }
        let count = |left: u64| (left != u64::MAX).then(|| left.saturating_sub(bytes as u64));
        let left = self.until_frozen.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
        if left.is_ok_and(|left| left <= bytes as u64) {
            self.until_frozen.store(u64::MAX, Ordering::SeqCst);
            self.frozen.send_replace(true);
        }
    }

    async fn thawed(&self) {
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    async fn upstream(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fault: &Fault, losing: &Mutex<bool>) {
        let mut left = match fault {
            Fault::CutRequest(n) => *n,
            _ => usize::MAX,
        };
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n) = from.read(&mut buffer).await {
            if let Fault::LoseAnswer(method, part) = fault {
                let line = String::from_utf8_lossy(&buffer[..n]).lines().next().unwrap_or_default().to_owned();
                if line.starts_with(method) && line.contains(part) {
                    *losing.lock().unwrap() = true;
                }
            }
            let n = n.min(left);
            left -= n;
            self.from_client.fetch_add(n as u64, Ordering::SeqCst);
            self.passes(n).await;
            self.thawed().await;
            if n == 0 || to.write_all(&buffer[..n]).await.is_err() || left == 0 {
                return;
            }
        }
    }

    async fn downstream(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fault: &Fault, losing: &Mutex<bool>) {
        let mut left = match fault {
            Fault::CutAnswer(n) => *n,
            _ => usize::MAX,
        };
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n) = from.read(&mut buffer).await {
            if *losing.lock().unwrap() {
                return;
            }
            let n = n.min(left);
            left -= n;
            self.from_server.fetch_add(n as u64, Ordering::SeqCst);
            self.passes(n).await;
            self.thawed().await;
            if n == 0 || to.write_all(&buffer[..n]).await.is_err() || left == 0 {
                return;
            }
        }
    }
}

/// An answer as S3 refuses: a status line and its XML.
pub fn refusal(status: &str, code: &str, headers: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told by a test</Message></Error>");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}
