//! Requests of the storages that speak plain HTTP: one client with its timeouts and whom it trusts, bodies that break
//! off, and the same client for what fetches credentials.
//!
//! Nothing is repeated and no redirect is followed here. An address may hold a signature, so it is never shown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::client::{ClientConfigKey, ClientOptions, HttpClient, HttpConnector};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Request, Response, Url};

use super::line;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};

/// A person who watches is told within ten seconds, clean-up included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte of a request to the first of its answer: a whole part on a slow line lies between them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long nothing at all may move in the middle of a body.
const STALL: Duration = Duration::from_secs(30);
/// What is read of an answer that says why.
const REFUSAL_BYTES: usize = 64 << 10;

/// Whom a connection trusts: the system's authorities, only those of a file, or anybody.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trust<'a> {
    pub(super) ca_file: Option<&'a str>,
    pub(super) anybody: bool,
}

/// A client for one server.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    /// Past all proxies.
    direct: Client,
    /// Where requests go, for a person.
    pub(super) server: String,
}

/// A request before it is signed.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// With its query.
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A header whose value is one by its making: a number, a word, base64.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// The bytes of an object, where the server can give a part of it.
    pub(super) fn range(self, range: Option<&std::ops::Range<u64>>) -> Self {
        match range {
            Some(range) => self.header("range", &format!("bytes={}-{}", range.start, range.end.saturating_sub(1))),
            None => self,
        }
    }
}

impl Http {
    /// Reads the CA file. `server` is the address that a person knows it by. Errors: `Invalid` for the file.
    pub(super) async fn new(server: &str, trust: Trust<'_>) -> Result<Self> {
        // The one TLS library of this program; it is no error when it was chosen before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authorities = match trust.ca_file {
            Some(path) => {
                let pem = line::read_authorities(path).await?;
                let read = Certificate::from_pem_bundle(&pem);
                Some(read.map_err(|e| Error::invalid("ca-file", line::root_cause(&e)))?)
            }
            None => None,
        };
        let build = |direct: bool| {
            let mut builder = Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(Policy::none())
                .http1_only()
                .tcp_nodelay(true)
                .user_agent(concat!("mongokeep/", env!("CARGO_PKG_VERSION")));
            builder = match &authorities {
                _ if trust.anybody => builder.tls_danger_accept_invalid_certs(true),
                Some(authorities) => builder.tls_certs_only(authorities.iter().cloned()),
                // Reading the system's authorities fails on a machine without any, which matters only where TLS is spoken.
                None if direct || server.starts_with("http://") => builder.tls_certs_only([]),
                None => builder,
            };
            let builder = if direct { builder.no_proxy() } else { builder };
            builder.build().map_err(|e| Error::new(ErrorKind::Failed, "setting up TLS").source(e))
        };
        Ok(Self { client: build(false)?, direct: build(true)?, server: text::escape(server) })
    }

    /// Sends `ask`. Any answer is one, whatever its status.
    pub(super) async fn send(&self, what: &str, ask: Ask) -> Result<Response> {
        let url = Url::parse(&ask.url).map_err(|e| Error::invalid("endpoint", e))?;
        let mut request = Request::new(ask.method, url);
        *request.headers_mut() = ask.headers;
        if !ask.body.is_empty() {
            *request.body_mut() = Some(ask.body.into());
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) if e.is_timeout() => Err(line::no_answer(&self.server, what)),
            Ok(Err(e)) => Err(line::broken(&self.server, what, &e.without_url())),
            Err(_) => Err(line::no_answer(&self.server, what)),
        }
    }

    /// An answer whole, of `most` bytes at most.
    pub(super) async fn whole(&self, what: &str, mut response: Response, most: usize) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(what, &mut response).await? {
            if body.len() + chunk.len() > most {
                let why = format!("{what}: {} answered more than {}", self.server, text::bytes(most as u64));
                return Err(
                    Error::new(ErrorKind::Failed, why).hint("check the endpoint: it must be that of the storage")
                );
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// What an answer that refuses says, as far as it says something.
    pub(super) async fn said(&self, what: &str, response: Response) -> Bytes {
        self.whole(what, response, REFUSAL_BYTES).await.unwrap_or_default()
    }

    /// Lets an answer go that says nothing; its connection is used again.
    pub(super) async fn drain(&self, response: Response) {
        drop(self.said("", response).await);
    }

    async fn chunk(&self, what: &str, response: &mut Response) -> Result<Option<Bytes>> {
        match tokio::time::timeout(STALL, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(e)) => Err(line::broken(&self.server, what, &e.without_url())),
            Err(_) => Err(line::no_answer(&self.server, what)),
        }
    }

    /// The chunks of an object, as they come. One that ends before `expected` bytes, or breaks off, yields an error.
    pub(super) fn stream(
        self: &Arc<Self>,
        what: String,
        response: Response,
        expected: Option<u64>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let http = Arc::clone(self);
        stream::unfold(Some((response, 0u64)), move |state| {
            let (http, what) = (Arc::clone(&http), what.clone());
            async move {
                let (mut response, got) = state?;
                match http.chunk(&what, &mut response).await {
                    Ok(Some(chunk)) => {
                        let got = got + chunk.len() as u64;
                        Some((Ok(chunk), Some((response, got))))
                    }
                    Ok(None) if expected.is_some_and(|n| n != got) => {
                        let why = format!("{what}: the answer ended after {got} bytes");
                        Some((Err(Error::new(ErrorKind::Transient, why)), None))
                    }
                    Ok(None) => None,
                    Err(e) => Some((Err(e), None)),
                }
            }
        })
        .boxed()
    }

    /// For what fetches credentials.
    pub(super) fn connector(&self) -> Connector {
        Connector { client: self.client.clone(), direct: self.direct.clone() }
    }
}

/// What may be read of an object's answer to a request for `range`: how many bytes come, or why not.
///
/// Errors: `Unsupported` where the server sends another range than was asked for; `Corrupt` for an object that is too short.
pub(super) fn expected(what: &str, response: &Response, range: Option<&std::ops::Range<u64>>) -> Result<Option<u64>> {
    let length = response.content_length();
    let Some(range) = range else { return Ok(length) };
    let wanted = range.end - range.start;
    if response.status().as_u16() != 206 || length.is_some_and(|n| n > wanted) {
        return Err(Error::new(ErrorKind::Unsupported, format!("{what}: the server ignores ranges")));
    }
    if length.is_some_and(|n| n < wanted) {
        return Err(short(what));
    }
    Ok(Some(wanted))
}

pub(super) fn short(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what}: the object is shorter than it should be"))
}

/// Every byte of a part of a path or query that could mean something there.
pub(super) fn encoded(text: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The endpoint without the slashes at its end. Errors: `Invalid`.
pub(super) fn endpoint(endpoint: &str) -> Result<String> {
    let url = Url::parse(endpoint).map_err(|e| Error::invalid("endpoint", e).hint("write https://host:port"))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(Error::invalid("endpoint", "is not an http:// or https:// address").hint("write https://host:port"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid("endpoint", "holds credentials; give them as fields of their own"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::invalid("endpoint", "is not an address").hint("a signature is given as a field of its own"));
    }
    Ok(endpoint.trim_end_matches('/').to_owned())
}

/// Hands our client to what fetches credentials. The service of a cloud's machine that hands them out is asked past all
/// proxies: it is at an address that only this machine has.
#[derive(Clone)]
pub(super) struct Connector {
    client: Client,
    direct: Client,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HTTP client for credentials")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Plain HTTP is allowed there and nowhere else.
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        Ok(HttpClient::new(if plain { self.direct.clone() } else { self.client.clone() }))
    }
}

/// Why there are no credentials. What cannot be reached may come back; what is refused does not.
pub(super) fn no_credentials(what: &str, error: &object_store::Error, hint: &str) -> Error {
    let unreachable = line::find::<reqwest::Error>(error).is_some_and(|e| e.is_connect() || e.is_timeout());
    let kind = if unreachable { ErrorKind::Unreachable } else { ErrorKind::Unauthenticated };
    let why: String = line::root_cause(error).chars().take(300).collect();
    Error::new(kind, format!("{what}: there are no credentials: {why}")).hint(hint)
}

/// What answers a status without a code of the storage's own: something in between, which knows nothing else. Most of it
/// passes when the server is back.
pub(super) fn without_code(server: &str, what: &str, status: u16) -> Error {
    let error = |kind, hint: &str| {
        let why = format!("{what}: {server} answered with status {status}, but not as the storage does");
        Error::new(kind, why).hint(hint)
    };
    match status {
        401 | 407 => error(
            ErrorKind::Unauthenticated,
            "check the credentials of the storage; a proxy in between may want some of its own",
        ),
        405 | 501 => error(ErrorKind::Unsupported, "check the endpoint: it must be that of the storage"),
        411 | 413 | 414 | 431 => error(
            ErrorKind::Failed,
            "a proxy in between limits the size of requests (nginx: client_max_body_size); it must pass bodies of 5 MiB",
        ),
        507 => error(ErrorKind::StorageFull, "delete old backups, or give the storage more room"),
        400..=499 | 500.. => error(
            ErrorKind::Transient,
            "a proxy in between may have answered for a server that is away, which passes; if it stays, check the endpoint",
        ),
        _ => {
            error(ErrorKind::Failed, "check the endpoint: it must be that of the storage, and no redirect is followed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_in_an_address_is_encoded() {
        assert_eq!(encoded("a b/é+%?#&=~.-_", true), "a%20b/%C3%A9%2B%25%3F%23%26%3D~.-_");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }

    #[test]
    fn an_endpoint_holds_no_secret() {
        assert_eq!(endpoint("http://h:1/account/").unwrap(), "http://h:1/account");
        for bad in ["h:1", "ftp://h", "https://u:hunter2@h", "https://h/?sig=hunter2", "https://"] {
            let error = endpoint(bad).unwrap_err();
            assert_eq!(error.field(), Some("endpoint"), "{bad}");
            assert!(!error.full().contains("hunter2"), "{error}");
        }
    }
}
