//! Resumable uploads as Google documents them, in front of fake-gcs-server.
//!
//! fake-gcs-server 1.56.1 does three things differently, each of which matters only when an answer is lost: it takes the
//! question how much it has (`Content-Range: bytes */*`) for the end of the object; it appends what is sent a second time;
//! and it keeps an upload that was ended. This keeps the sessions itself
//! (<https://cloud.google.com/storage/docs/performing-resumable-uploads>) and hands over whole objects, and everything
//! else, as they came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connections;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::cloud_servers::{BUCKET, plain};

/// Chunks that do not end an object are multiples of this.
const UNIT: usize = 256 << 10;

/// Stops when dropped.
pub struct Sessions {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    fake: SocketAddr,
    client: reqwest::Client,
    open: Mutex<BTreeMap<String, Session>>,
    /// What the last request said of who sent it.
    authorization: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Session {
    about: Value,
    body: Vec<u8>,
    /// What was answered when the object was made.
    made: Option<Bytes>,
}

type Answer = Response<Full<Bytes>>;

impl Sessions {
    pub async fn start(fake: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { fake, client: plain(), open: Mutex::default(), authorization: Mutex::default() });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                // Connections end with their tasks, which end with this one.
                let mut connections = JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        let service = service_fn(move |request| {
                            let shared = Arc::clone(&shared);
                            async move { Ok::<_, Infallible>(shared.answer(request).await) }
                        });
                        let io = TokioIo::new(socket);
                        let _ = Connections::new(TokioExecutor::new()).serve_connection(io, service).await;
                    });
                }
            }
        });
        Self { address, shared, task }
    }

    /// Uploads that were begun and neither finished nor ended.
    pub fn unfinished(&self) -> usize {
        self.shared.open.lock().unwrap().values().filter(|session| session.made.is_none()).count()
    }
}

impl Sessions {
    /// What the last request said of who sent it.
    pub fn authorization(&self) -> Option<String> {
        self.shared.authorization.lock().unwrap().clone()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    answer
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        // Broken off: nobody waits for an answer.
        let Ok(body) = body.collect().await else { return answer(499, "") };
        let body = body.to_bytes();
        let said = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        *self.authorization.lock().unwrap() = said;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if !query.contains("uploadType=resumable") {
            return self.forward(parts, body).await;
        }
        let id = query.split('&').find_map(|pair| pair.strip_prefix("upload_id=")).map(str::to_owned);
        let range = parts.headers.get("content-range").map(|value| value.to_str().unwrap().to_owned());
        match (parts.method.as_str(), id) {
            ("POST", None) => {
                let id = format!("{:032x}", rand::random::<u128>());
                let host = parts.headers["host"].to_str().unwrap();
                let place = format!("http://{host}{}?uploadType=resumable&upload_id={id}", parts.uri.path());
                let about = serde_json::from_slice(&body).unwrap();
                self.open.lock().unwrap().insert(id, Session { about, body: Vec::new(), made: None });
                let mut answer = answer(200, "");
                answer.headers_mut().insert("location", place.parse().unwrap());
                answer
            }
            ("PUT", Some(id)) => self.take(&id, &range.unwrap(), &body).await,
            ("DELETE", Some(id)) => match self.open.lock().unwrap().remove(&id) {
                Some(_) => answer(499, ""),
                None => gone(),
            },
            other => panic!("{other:?} {query}"),
        }
    }

    async fn take(&self, id: &str, range: &str, body: &[u8]) -> Answer {
        let session = self.open.lock().unwrap().get(id).cloned();
        let Some(mut session) = session else { return gone() };
        if let Some(made) = session.made {
            return answer(200, made);
        }
        let (bytes, total) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
        let total = total.parse::<usize>().ok();
        if let Some((first, last)) = bytes.split_once('-') {
            let (first, last) = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap());
            assert_eq!(last - first + 1, body.len(), "{range}");
            if first > session.body.len() {
                return answer(400, r#"{"error":{"code":400,"message":"Invalid request: a gap","errors":[]}}"#);
            }
            // What it has already it does not take again.
            let new = body.get(session.body.len() - first..).unwrap_or_default();
            let kept = if total.is_some() { new.len() } else { new.len() / UNIT * UNIT };
            session.body.extend_from_slice(&new[..kept]);
        }
        if total == Some(session.body.len()) {
            let made = self.make(&session).await;
            session.made = Some(made.clone());
            self.open.lock().unwrap().insert(id.to_owned(), session);
            return answer(200, made);
        }
        let mut answer = answer(308, "");
        if !session.body.is_empty() {
            let has = format!("bytes=0-{}", session.body.len() - 1);
            answer.headers_mut().insert("range", has.parse().unwrap());
        }
        self.open.lock().unwrap().insert(id.to_owned(), session);
        answer
    }

    /// Makes the object, and returns what is said of it.
    async fn make(&self, session: &Session) -> Bytes {
        let mut body = format!(
            "--between\r\nContent-Type: application/json\r\n\r\n{}\r\n--between\r\nContent-Type: application/octet-stream\r\n\r\n",
            session.about
        )
        .into_bytes();
        body.extend_from_slice(&session.body);
        body.extend_from_slice(b"\r\n--between--\r\n");
        let url = format!("http://{}/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart", self.fake);
        let request = self.client.post(url).header("content-type", "multipart/related; boundary=between").body(body);
        let made = request.send().await.unwrap();
        assert!(made.status().is_success());
        made.bytes().await.unwrap()
    }

    async fn forward(&self, parts: hyper::http::request::Parts, body: Bytes) -> Answer {
        let url = format!("http://{}{}", self.fake, parts.uri);
        let mut headers = parts.headers;
        // The name by which the server knows itself.
        headers.insert("host", self.fake.to_string().parse().unwrap());
        let sent = self.client.request(parts.method, url).headers(headers).body(body).send().await.unwrap();
        let (status, headers) = (sent.status(), sent.headers().clone());
        let mut answer = answer(status.as_u16(), sent.bytes().await.unwrap());
        for (name, value) in
            headers.iter().filter(|(name, _)| !["transfer-encoding", "content-length"].contains(&name.as_str()))
        {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }
}

fn gone() -> Answer {
    answer(410, r#"{"error":{"code":410,"message":"The upload is gone","errors":[{"reason":"gone"}]}}"#)
}
