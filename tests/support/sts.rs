//! The service of AWS that hands out temporary credentials (STS), as far as a storage needs it, and as strict: signatures are
//! checked, a role wants its external id, a token of an identity must be the right one, and what was handed out expires.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, hmac};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connections;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const ROLE: &str = "arn:aws:iam::123456789012:role/backups";
pub const EXTERNAL_ID: &str = "of-our-customer";
pub const IDENTITY_TOKEN: &str = "the-token-of-a-pod";

/// What was handed out, which an S3 server takes and no other.
#[derive(Default)]
pub struct Sessions {
    /// By access key.
    issued: Mutex<BTreeMap<String, Session>>,
}

#[derive(Clone)]
struct Session {
    secret: String,
    token: String,
    expires: SystemTime,
    name: String,
}

impl Sessions {
    pub fn count(&self) -> usize {
        self.issued.lock().unwrap().len()
    }

    /// What the sessions were called.
    pub fn names(&self) -> Vec<String> {
        self.issued.lock().unwrap().values().map(|session| session.name.clone()).collect()
    }

    /// The secret of a key that is still good.
    pub fn secret(&self, key: &str) -> Option<String> {
        let issued = self.issued.lock().unwrap();
        issued.get(key).filter(|session| session.expires > SystemTime::now()).map(|session| session.secret.clone())
    }

    /// Whether the token belongs to the key.
    pub fn is_of(&self, key: &str, token: &str) -> bool {
        self.issued.lock().unwrap().get(key).is_some_and(|session| session.token == token)
    }

    fn issue(&self, name: &str, lifetime: Duration) -> (String, Session) {
        let mut issued = self.issued.lock().unwrap();
        let number = issued.len() + 1;
        let session = Session {
            secret: format!("secret-of-session-{number}"),
            token: format!("token-of-session-{number}"),
            expires: SystemTime::now() + lifetime,
            name: name.to_owned(),
        };
        let key = format!("ASIASESSION{number:05}");
        issued.insert(key.clone(), session.clone());
        (key, session)
    }
}

/// Stops when dropped.
pub struct Sts {
    pub address: SocketAddr,
    pub sessions: Arc<Sessions>,
    task: JoinHandle<()>,
}

impl Drop for Sts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sts {
    /// `key` and `secret`: of whoever may assume the role. What is handed out lives for `lifetime`.
    pub async fn start(key: &'static str, secret: &'static str, lifetime: Duration) -> Self {
        let sessions = Arc::new(Sessions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Arc::new(Issuer { sessions: Arc::clone(&sessions), key, secret, lifetime });
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let issuer = Arc::clone(&issuer);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let issuer = Arc::clone(&issuer);
                        async move { Ok::<_, std::convert::Infallible>(issuer.answer(request).await) }
                    });
                    let _ =
                        Connections::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, sessions, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

struct Issuer {
    sessions: Arc<Sessions>,
    key: &'static str,
    secret: &'static str,
    lifetime: Duration,
}

type Refusal = (&'static str, String);

impl Issuer {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (status, text) = match self.hand_out(&head, &body) {
            Ok(text) => (200, text),
            Err((code, message)) => {
                let error =
                    format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
                (
                    403,
                    format!(
                        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{error}<RequestId>1</RequestId></ErrorResponse>"
                    ),
                )
            }
        };
        Response::builder().status(status).header("content-type", "text/xml").body(Full::new(text.into())).unwrap()
    }

    fn hand_out(&self, head: &hyper::http::request::Parts, body: &[u8]) -> Result<String, Refusal> {
        if head.method != "POST" || head.uri.path() != "/" {
            return Err(("InvalidAction", format!("{} {}", head.method, head.uri)));
        }
        let fields: BTreeMap<String, String> = std::str::from_utf8(body).unwrap().split('&').map(pair).collect();
        let field =
            |name: &'static str| fields.get(name).cloned().ok_or(("MissingParameter", format!("{name} is missing")));
        if field("Version")? != "2011-06-15" {
            return Err(("InvalidAction", "this is version 2011-06-15".into()));
        }
        let (action, name) = (field("Action")?, field("RoleSessionName")?);
        if field("RoleArn")? != ROLE {
            return Err(("AccessDenied", "there is no such role that you may assume".into()));
        }
        match action.as_str() {
            "AssumeRole" => {
                self.must_be_signed(head, body)?;
                if fields.get("ExternalId").is_none_or(|id| id != EXTERNAL_ID) {
                    return Err(("AccessDenied", "the role wants its external id".into()));
                }
            }
            // Signed by nobody: the token says who it is.
            "AssumeRoleWithWebIdentity" => {
                if field("WebIdentityToken")? != IDENTITY_TOKEN || head.headers.contains_key("authorization") {
                    return Err(("InvalidIdentityToken", "the token is not of our provider".into()));
                }
            }
            other => return Err(("InvalidAction", format!("no action {other}"))),
        }
        let (key, session) = self.sessions.issue(&name, self.lifetime);
        let expires = chrono::DateTime::<chrono::Utc>::from(session.expires).format("%Y-%m-%dT%H:%M:%SZ");
        let credentials = format!(
            "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
             <SessionToken>{}</SessionToken><Expiration>{expires}</Expiration></Credentials>",
            session.secret, session.token
        );
        let user = format!(
            "<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{name}</AssumedRoleId>\
             <Arn>arn:aws:sts::123456789012:assumed-role/backups/{name}</Arn></AssumedRoleUser>"
        );
        Ok(format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{credentials}{user}\
             </{action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
        ))
    }

    /// Signature version 4, computed anew from what arrived.
    fn must_be_signed(&self, head: &hyper::http::request::Parts, body: &[u8]) -> Result<(), Refusal> {
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let refused = |why: &str| ("SignatureDoesNotMatch", why.to_owned());
        let given = header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").ok_or(refused("it is not signed"))?;
        let parts: BTreeMap<&str, &str> = given.split(", ").filter_map(|part| part.split_once('=')).collect();
        let part = |name: &str| parts.get(name).copied().ok_or(refused("the signature is not whole"));
        let (key, scope) = part("Credential")?.split_once('/').ok_or(refused("no credential"))?;
        if key != self.key {
            return Err(("InvalidClientTokenId", "the security token included in the request is invalid".into()));
        }
        let [date, region, "sts", "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return Err(refused("it is signed for another service"));
        };
        let signed = part("SignedHeaders")?;
        let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", header(name).trim())).collect();
        let canonical =
            format!("POST\n/\n\n{headers}\n{signed}\n{}", hex(digest::digest(&digest::SHA256, body).as_ref()));
        let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hashed}", header("x-amz-date"));
        let mac = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let of_day = mac(format!("AWS4{}", self.secret).as_bytes(), date);
        let of_request = mac(&mac(&mac(&of_day, region), "sts"), "aws4_request");
        if hex(&mac(&of_request, &to_sign)) == part("Signature")? {
            Ok(())
        } else {
            Err(refused("the signature is wrong"))
        }
    }
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8().unwrap().into_owned()
    };
    (decoded(name), decoded(value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
