//! An S3 server in the test process: s3s-fs over a temporary folder, on 127.0.0.1.
//!
//! s3s-fs 0.14.1 leaves out or does differently some of what S3 documents and we rely on. [`Documented`] stands
//! around it and does those things as S3 documents them; everything else is s3s-fs itself.

// Every test program uses another part of this.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connections;
use mongokeep::domain::secret::Secret;
use mongokeep::storage::s3::S3Config;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::sts::Sessions;

pub const ACCESS_KEY: &str = "AKIAEXAMPLE";
pub const SECRET_KEY: &str = "secret-of-the-test";
pub const BUCKET: &str = "backups";

/// How the server takes `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// As S3 does.
    Kept,
    /// As servers do that never heard of it.
    Ignored,
    /// As servers do that heard of it and have not built it.
    Refused,
    /// As servers do that take the marker of a deletion for an object.
    MarkersCount,
}

/// What the server says to the headers of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// It takes them, and a multipart upload has to declare its own, as Amazon and versitygw want it.
    Taken,
    /// It refuses requests that have one, as servers do that do not know them.
    Refused,
    /// It wants Content-MD5 and knows no other, as older servers do for a bucket with Object Lock.
    Md5,
}

/// Stops when dropped.
pub struct S3Server {
    pub address: SocketAddr,
    /// The certificate to trust, when it speaks TLS.
    pub certificate: Option<String>,
    folder: TempDir,
    uploads: Uploads,
    listings_hidden: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicU64>,
    assembling: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// Key and id of each unfinished upload, with its bucket and whether it declared a checksum.
type Uploads = Arc<Mutex<BTreeMap<(String, String), (String, bool)>>>;

impl S3Server {
    pub async fn start() -> Self {
        Self::with(Conditions::Kept, false).await
    }

    pub async fn with(conditions: Conditions, tls: bool) -> Self {
        Self::answering(conditions, Headers::Taken, tls).await
    }

    /// It takes the credentials of sessions, with their tokens and before they expire, and no others.
    #[allow(dead_code)]
    pub async fn for_sessions(sessions: Arc<Sessions>) -> Self {
        Self::with_access(Conditions::Kept, Headers::Taken, false, Some(sessions)).await
    }

    pub async fn answering(conditions: Conditions, headers: Headers, tls: bool) -> Self {
        Self::with_access(conditions, headers, tls, None).await
    }

    async fn with_access(conditions: Conditions, headers: Headers, tls: bool, sessions: Option<Arc<Sessions>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let uploads = Uploads::default();
        let listings_hidden = Arc::new(AtomicBool::new(false));
        let asked = Arc::default();
        let requests: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&requests);
        let assembling: Arc<AtomicU64> = Arc::default();
        let mut builder = S3ServiceBuilder::new(Documented {
            inner: FileSystem::new(folder.path()).unwrap(),
            root: folder.path().to_owned(),
            conditions,
            headers,
            deleted: Mutex::default(),
            creating: tokio::sync::Mutex::new(()),
            uploads: Arc::clone(&uploads),
            listings_hidden: Arc::clone(&listings_hidden),
            asked: Arc::clone(&asked),
            customer_keys: Mutex::default(),
            sessions: sessions.clone(),
            assembling: Arc::clone(&assembling),
        });
        match sessions {
            Some(sessions) => builder.set_auth(OfSessions(sessions)),
            None => builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY)),
        }
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, certificate) = if tls { tls_acceptor() } else { (None, None) };
        let task = tokio::spawn(async move {
            // Connections end with their tasks, which end with this one.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (service, acceptor) = (Counting(service.clone(), Arc::clone(&counted)), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => serve(socket, service).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(socket).await {
                                serve(stream, service).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, certificate, folder, uploads, listings_hidden, asked, requests, assembling, task }
    }

    /// How to reach it; change what differs.
    pub fn config(&self) -> S3Config {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        S3Config {
            bucket: BUCKET.into(),
            region: Some("eu-west-1".into()),
            endpoint: Some(format!("{scheme}://{}", self.address)),
            path_style: true,
            access_key_id: Some(ACCESS_KEY.into()),
            secret_access_key: Some(Secret::new(SECRET_KEY)),
            ..S3Config::default()
        }
    }

    /// Requests so far.
    #[allow(dead_code)]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// How long it has put parts of uploads together so far: it copies all of them, where large services note their names.
    #[allow(dead_code)]
    pub fn assembling(&self) -> Duration {
        Duration::from_micros(self.assembling.load(Ordering::Relaxed))
    }

    /// Uploads that were begun and neither finished nor aborted.
    pub fn unfinished(&self) -> usize {
        self.uploads.lock().unwrap().len()
    }

    /// How each object was asked to be stored: its key, class, encryption and key of it.
    #[allow(dead_code)]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// From now on every listing is empty, as of a server whose index is behind.
    pub fn hide_listings(&self) {
        self.listings_hidden.store(true, Ordering::SeqCst);
    }

    /// The folder that holds the bucket's objects.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts the requests that reach the server.
#[derive(Clone)]
struct Counting(s3s::service::S3Service, Arc<AtomicU64>);

impl hyper::service::Service<hyper::Request<hyper::body::Incoming>> for Counting {
    type Response =
        <s3s::service::S3Service as hyper::service::Service<hyper::Request<hyper::body::Incoming>>>::Response;
    type Error = <s3s::service::S3Service as hyper::service::Service<hyper::Request<hyper::body::Incoming>>>::Error;
    type Future = <s3s::service::S3Service as hyper::service::Service<hyper::Request<hyper::body::Incoming>>>::Future;

    fn call(&self, request: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        self.1.fetch_add(1, Ordering::SeqCst);
        hyper::service::Service::call(&self.0, request)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Counting) {
    let _ = Connections::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

fn tls_acceptor() -> (Option<tokio_rustls::TlsAcceptor>, Option<String>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Some(tokio_rustls::TlsAcceptor::from(Arc::new(config))), Some(made.cert.pem()))
}

/// s3s-fs with these differences taken away:
/// it does not list multipart uploads; it answers `AccessDenied` for an upload it does not know; two conditional
/// puts at the same moment both succeed; it takes a folder of the disk for an object; a multipart object keeps the
/// checksums of the object it replaces; a bucket that is not there is a missing object or an internal error; an upload
/// may carry checksums that it did not declare.
struct Documented {
    inner: FileSystem,
    root: PathBuf,
    conditions: Conditions,
    headers: Headers,
    /// Keys that were deleted.
    deleted: Mutex<BTreeSet<String>>,
    creating: tokio::sync::Mutex<()>,
    uploads: Uploads,
    listings_hidden: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    /// The MD5 of the key of a customer that an object, or an upload by its id, was encrypted with.
    customer_keys: Mutex<BTreeMap<String, String>>,
    sessions: Option<Arc<Sessions>>,
    /// Microseconds.
    assembling: Arc<AtomicU64>,
}

struct OfSessions(Arc<Sessions>);

#[async_trait::async_trait]
impl s3s::auth::S3Auth for OfSessions {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<s3s::auth::SecretKey> {
        let secret =
            self.0.secret(access_key).ok_or_else(|| s3_error!(ExpiredToken, "The provided token has expired."))?;
        Ok(secret.into())
    }
}

/// The three headers of the key of a customer.
type CustomerKey<'a> = (Option<&'a String>, Option<&'a String>, Option<&'a String>);

/// Those of a request, whatever its kind.
macro_rules! of_customer {
    ($input:expr) => {
        ($input.sse_customer_algorithm.as_ref(), $input.sse_customer_key.as_ref(), $input.sse_customer_key_md5.as_ref())
    };
}

/// The MD5 of the key that is given, if one is. As S3 documents it: all three or none, and they belong together.
fn customer_key((algorithm, key, md5): CustomerKey<'_>) -> S3Result<Option<String>> {
    use base64::Engine as _;
    use md5::Digest as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    match (algorithm, key, md5) {
        (None, None, None) => Ok(None),
        (Some(algorithm), Some(key), Some(md5)) if algorithm == "AES256" => {
            let bytes = base64.decode(key).ok().filter(|bytes| bytes.len() == 32);
            let is_it = bytes.is_some_and(|bytes| base64.encode(md5::Md5::digest(bytes)) == *md5);
            if is_it {
                Ok(Some(md5.clone()))
            } else {
                Err(s3_error!(InvalidArgument, "The key does not match its MD5."))
            }
        }
        _ => Err(s3_error!(
            InvalidArgument,
            "Requests specifying Server Side Encryption with Customer provided keys must provide all of it."
        )),
    }
}

impl Documented {
    /// The token of a session stands in every request that is signed with its key.
    fn session<T>(&self, req: &S3Request<T>) -> S3Result<()> {
        let Some(sessions) = &self.sessions else { return Ok(()) };
        let key = req.credentials.as_ref().map(|c| c.access_key.as_str()).unwrap_or_default();
        let token = req.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
        if sessions.is_of(key, token) {
            Ok(())
        } else {
            Err(s3_error!(InvalidToken, "The token is of another session."))
        }
    }

    /// What was encrypted with the key of a customer is given to whoever has it.
    fn opened(&self, what: &str, given: CustomerKey<'_>) -> S3Result<()> {
        let given = customer_key(given)?;
        match (self.customer_keys.lock().unwrap().get(what), given) {
            (None, None) => Ok(()),
            (Some(of), Some(given)) if *of == given => Ok(()),
            (Some(_), Some(_)) => Err(s3_error!(AccessDenied, "Access Denied")),
            (Some(_), None) => Err(s3_error!(
                InvalidRequest,
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
            )),
            (None, Some(_)) => {
                Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
            }
        }
    }

    /// The same of an object that is there: of another there is nothing to be opened.
    fn readable(&self, bucket: &str, key: &str, given: CustomerKey<'_>) -> S3Result<()> {
        if self.root.join(bucket).join(key).is_file() { self.opened(key, given) } else { Ok(()) }
    }

    fn encrypted(&self, what: &str, given: CustomerKey<'_>) -> S3Result<()> {
        let given = customer_key(given)?;
        let mut keys = self.customer_keys.lock().unwrap();
        match given {
            Some(given) => drop(keys.insert(what.to_owned(), given)),
            None => drop(keys.remove(what)),
        }
        Ok(())
    }

    fn note(
        &self,
        key: &str,
        class: Option<&StorageClass>,
        encryption: Option<&ServerSideEncryption>,
        of: Option<&String>,
    ) {
        let class = class.map_or("-", |class| class.as_str());
        let encryption = encryption.map_or("-", |encryption| encryption.as_str());
        let of = of.map_or("-", String::as_str);
        self.asked.lock().unwrap().push(format!("{key} {class} {encryption} {of}"));
    }

    fn bucket(&self, bucket: &str) -> S3Result<PathBuf> {
        let path = self.root.join(bucket);
        if path.is_dir() { Ok(path) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Whether the upload declared a checksum.
    fn known(&self, key: &str, id: &str) -> S3Result<bool> {
        let uploads = self.uploads.lock().unwrap();
        let found = uploads.get(&(key.to_owned(), id.to_owned())).map(|(_, declared)| *declared);
        found.ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

/// Whether the server takes the headers of a request, which has a body or not.
fn allowed<T>(headers: Headers, req: &S3Request<T>, has_body: bool) -> S3Result<()> {
    let has_checksum = || {
        let mut names = req.headers.keys().map(|name| name.as_str());
        names.any(|name| name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm")
    };
    match headers {
        Headers::Taken => Ok(()),
        Headers::Refused | Headers::Md5 if has_checksum() => {
            Err(s3_error!(NotImplemented, "A header you provided implies functionality that is not implemented."))
        }
        Headers::Md5 if has_body && !req.headers.contains_key("content-md5") => Err(s3_error!(
            InvalidRequest,
            "Content-MD5 HTTP header is required for requests with Object Lock parameters"
        )),
        Headers::Refused | Headers::Md5 => Ok(()),
    }
}

fn is_folder(bucket: &Path, key: &str) -> bool {
    bucket.join(key).is_dir()
}

#[async_trait::async_trait]
impl S3 for Documented {
    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.bucket(&req.input.bucket)?;
        allowed(self.headers, &req, true)?;
        self.session(&req)?;
        let of = &req.input;
        self.note(&of.key, of.storage_class.as_ref(), of.server_side_encryption.as_ref(), of.ssekms_key_id.as_ref());
        // s3s-fs has one class and no encryption.
        (req.input.storage_class, req.input.server_side_encryption, req.input.ssekms_key_id) = (None, None, None);
        let is_new = req.input.if_none_match.is_some();
        if self.conditions == Conditions::MarkersCount
            && is_new
            && self.deleted.lock().unwrap().contains(&req.input.key)
        {
            return Err(s3_error!(PreconditionFailed));
        }
        match self.conditions {
            Conditions::Kept | Conditions::MarkersCount => {}
            Conditions::Ignored => req.input.if_none_match = None,
            Conditions::Refused if req.input.if_none_match.is_some() => return Err(s3_error!(NotImplemented)),
            Conditions::Refused => {}
        }
        let _one_at_a_time = match req.input.if_none_match {
            Some(_) => Some(self.creating.lock().await),
            None => None,
        };
        let (input, key) = (&req.input, req.input.key.clone());
        let given = of_customer!(input);
        self.encrypted(&key, given)?;
        self.inner.put_object(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        allowed(self.headers, &req, false)?;
        self.session(&req)?;
        if is_folder(&self.bucket(&req.input.bucket)?, &req.input.key) {
            return Err(s3_error!(NoSuchKey));
        }
        self.readable(&req.input.bucket, &req.input.key, of_customer!(req.input))?;
        self.inner.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.session(&req)?;
        if is_folder(&self.bucket(&req.input.bucket)?, &req.input.key) {
            return Err(s3_error!(NoSuchKey));
        }
        self.readable(&req.input.bucket, &req.input.key, of_customer!(req.input))?;
        self.inner.head_object(req).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.session(&req)?;
        if self.listings_hidden.load(Ordering::SeqCst) {
            return Ok(S3Response::new(ListObjectsV2Output { is_truncated: Some(false), ..Default::default() }));
        }
        self.inner.list_objects_v2(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        if is_folder(&self.bucket(&req.input.bucket)?, &req.input.key) {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        self.deleted.lock().unwrap().insert(req.input.key.clone());
        self.inner.delete_object(req).await
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.bucket(&req.input.bucket)?;
        allowed(self.headers, &req, false)?;
        let of = &req.input;
        self.note(&of.key, of.storage_class.as_ref(), of.server_side_encryption.as_ref(), of.ssekms_key_id.as_ref());
        (req.input.storage_class, req.input.server_side_encryption, req.input.ssekms_key_id) = (None, None, None);
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let declared = req.input.checksum_algorithm.is_some();
        let input = &req.input;
        let given =
            [input.sse_customer_algorithm.clone(), input.sse_customer_key.clone(), input.sse_customer_key_md5.clone()];
        let created = self.inner.create_multipart_upload(req).await?;
        let id = created.output.upload_id.clone().unwrap();
        self.encrypted(&id, (given[0].as_ref(), given[1].as_ref(), given[2].as_ref()))?;
        self.uploads.lock().unwrap().insert((key, id), (bucket, declared));
        Ok(created)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.known(&req.input.key, &req.input.upload_id)?;
        allowed(self.headers, &req, true)?;
        self.opened(&req.input.upload_id, of_customer!(req.input))?;
        self.inner.upload_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key, id) = (req.input.bucket.clone(), req.input.key.clone(), req.input.upload_id.clone());
        let declared = self.known(&key, &id)?;
        let parts = req.input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_ref());
        // Both must say the same: what is declared is carried, and nothing else is.
        if parts.is_some_and(|parts| parts.iter().any(|part| part.checksum_crc32.is_some() != declared)) {
            return Err(s3_error!(InvalidPart, "One or more of the specified parts could not be found"));
        }
        let replaced = s3s_fs_internal_info(&self.root, &bucket, &key);
        let _ = std::fs::remove_file(replaced);
        let began = Instant::now();
        let done = self.inner.complete_multipart_upload(req).await?;
        self.assembling.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        let mut keys = self.customer_keys.lock().unwrap();
        match keys.remove(&id) {
            Some(of) => drop(keys.insert(key.clone(), of)),
            None => drop(keys.remove(&key)),
        }
        drop(keys);
        self.uploads.lock().unwrap().remove(&(key, id));
        Ok(done)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let (key, id) = (req.input.key.clone(), req.input.upload_id.clone());
        self.known(&key, &id)?;
        let done = self.inner.abort_multipart_upload(req).await?;
        self.uploads.lock().unwrap().remove(&(key, id));
        Ok(done)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        self.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.key_marker.map(|key| (key, input.upload_id_marker.unwrap_or_default()));
        let all = self.uploads.lock().unwrap().clone();
        let mut left = all.into_iter().filter(|((key, id), (bucket, _))| {
            *bucket == input.bucket
                && key.starts_with(&prefix)
                && after.as_ref().is_none_or(|after| (key, id) > (&after.0, &after.1))
        });
        // Pages of one, so that every test with two pages through them.
        let page: Vec<_> = left.by_ref().take(1).map(|(upload, _)| upload).collect();
        let more = left.next().is_some();
        let last = page.last().cloned();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(more),
            next_key_marker: last.as_ref().filter(|_| more).map(|(key, _)| key.clone()),
            next_upload_id_marker: last.filter(|_| more).map(|(_, id)| id),
            uploads: Some(
                page.into_iter()
                    .map(|(key, id)| MultipartUpload { key: Some(key), upload_id: Some(id), ..Default::default() })
                    .collect(),
            ),
            ..Default::default()
        }))
    }
}

/// Where s3s-fs keeps the checksums of an object.
fn s3s_fs_internal_info(root: &Path, bucket: &str, key: &str) -> PathBuf {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    root.join(format!(".bucket-{}.object-{}.internal.json", encode(bucket), encode(key)))
}
