//! A bucket of an S3-compatible server as a storage.
//!
//! The SDK's own retries are off: the retry decorator does that for every storage in the same way. Bodies are sent
//! from memory, because several servers refuse the chunked encoding the SDK uses for streams. Objects are deleted
//! one by one, because several servers refuse the SDK's `DeleteObjects`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, StalledStreamProtectionConfig};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{
    Freeing, InFlight, Key, Level, ObjectInfo, OldVersions, PutMode, Storage, Unfinished, Upload, paged,
};

/// Adds the key of the customer to a request that writes or reads an object. Its builders have no trait in common.
macro_rules! with_key {
    ($request:expr, $inner:expr) => {{
        let key = &$inner.customer_key;
        $request
            .set_sse_customer_algorithm(key.algorithm())
            .set_sse_customer_key(key.key())
            .set_sse_customer_key_md5(key.md5())
    }};
}

mod backend;
mod checksum;
mod config;
mod connect;
mod credentials;
mod customer_key;
mod failure;
mod listing;
mod upload;
mod versions;

pub use backend::S3Backend;
use checksum::{Environment, Mode, Proof};
pub use config::{Checksums, S3Config, ServerSide};
use connect::{DEFAULT_REGION, check_endpoint};
use credentials::{Access, access};
use customer_key::CustomerKey;
use failure::{Names, answer};

/// Bytes of a part. S3 takes 10,000 parts, the last of any size and the others of at least 5 MiB. All that are on their way
/// are held in memory, so they are as small as may be.
pub const PART_SIZE: usize = MIN_PART_SIZE;
const MIN_PART_SIZE: usize = 5 << 20;
/// How long nothing at all may move in the middle of a body.
const STALL: Duration = Duration::from_secs(30);
/// How often an object is looked at that comes and goes while it is.
const LOOKS: u32 = 3;

/// A bucket, or what lies below a prefix of it.
#[derive(Debug, Clone)]
pub struct S3(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    bucket: String,
    /// Empty, or ends in a slash.
    base: String,
    place: String,
    names: Names,
    part_size: usize,
    in_flight: InFlight,
    proof: Proof,
    storage_class: Option<StorageClass>,
    sse: Option<ServerSideEncryption>,
    sse_kms_key_id: Option<String>,
    /// Sent with everything that writes or reads an object.
    customer_key: CustomerKey,
    /// The server has refused `If-None-Match`, so it is not sent any more.
    unconditional: AtomicBool,
}

impl S3 {
    /// Reads `ca_file` and, when no keys are given, what the AWS chain reads (files, environment). Does not contact
    /// the server.
    pub async fn new(config: &S3Config) -> Result<Self> {
        if config.bucket.is_empty() {
            return Err(Error::invalid("bucket", "is needed"));
        }
        let prefix = config.prefix.trim_matches('/');
        if !prefix.is_empty() {
            Key::new(prefix)
                .map_err(|_| Error::invalid("prefix", format!("{:?} is no prefix", text::escape(prefix))))?;
        }
        let mut environment = Environment::read()?;
        let endpoint = config.endpoint.as_deref().map(check_endpoint).transpose()?;
        let http_client = connect::http_client(config).await?;
        let region = region(config);
        let Access { builder, ambient, loaded } = access(config, region.as_deref(), &http_client).await?;
        if let Some(loaded) = loaded {
            // The profile may say it where the environment does not.
            environment.request = environment.request.or(loaded.request_checksum_calculation());
            environment.response = environment.response.or(loaded.response_checksum_validation());
        }
        let Mode { proof, validation } = Mode::new(config.checksums, environment);
        let mut builder = builder
            .behavior_version(BehaviorVersion::latest())
            // Each request says here what it carries.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(validation)
            .force_path_style(config.path_style)
            .http_client(http_client)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(connect::CONNECT_TIMEOUT)
                    .read_timeout(connect::READ_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL).build());
        if let Some(region) = &region {
            builder = builder.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        let mut built = builder.build();
        if built.region().is_none() {
            built = built.to_builder().region(Region::new(DEFAULT_REGION)).build();
        }
        let region = built.region().map_or(DEFAULT_REGION, |r| r.as_ref()).to_owned();
        let place = match prefix {
            "" => format!("s3://{}", config.bucket),
            prefix => format!("s3://{}/{prefix}", config.bucket),
        };
        Ok(Self(Arc::new(Inner {
            client: Client::from_conf(built),
            bucket: config.bucket.clone(),
            base: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            place: text::escape(&place),
            names: Names {
                bucket: text::escape(&config.bucket),
                server: endpoint.map_or_else(|| format!("S3 in {region}"), text::escape),
                region,
                ambient,
                profile: config.profile.clone(),
                has_key: config.sse_c_key.is_some(),
            },
            part_size: PART_SIZE,
            in_flight: InFlight::of_parts(),
            proof,
            storage_class: config.storage_class.as_deref().map(StorageClass::from),
            sse: match config.sse {
                ServerSide::Bucket => None,
                ServerSide::Aes256 => Some(ServerSideEncryption::Aes256),
                ServerSide::Kms => Some(ServerSideEncryption::AwsKms),
            },
            sse_kms_key_id: config.sse_kms_key_id.clone(),
            customer_key: CustomerKey::of(config.sse_c_key.as_ref())?,
            unconditional: AtomicBool::new(false),
        })))
    }

    /// Another part size, at least 5 MiB: larger parts for objects above 80 GB, smaller ones for less memory.
    pub fn with_part_size(self, bytes: usize) -> Result<Self> {
        if bytes < MIN_PART_SIZE {
            return Err(Error::invalid("part-size", "S3 takes parts of at least 5 MiB"));
        }
        let inner = &*self.0;
        Ok(Self(Arc::new(Inner {
            client: inner.client.clone(),
            bucket: inner.bucket.clone(),
            base: inner.base.clone(),
            place: inner.place.clone(),
            names: inner.names.clone(),
            part_size: bytes,
            in_flight: inner.in_flight.clone(),
            proof: inner.proof,
            storage_class: inner.storage_class.clone(),
            sse: inner.sse.clone(),
            sse_kms_key_id: inner.sse_kms_key_id.clone(),
            customer_key: inner.customer_key.clone(),
            unconditional: AtomicBool::new(inner.unconditional.load(Ordering::Relaxed)),
        })))
    }
}

/// The region that is configured, or follows from what is. AWS knows no default, other servers do not care.
fn region(config: &S3Config) -> Option<String> {
    let given = config.region.clone().filter(|r| !r.is_empty());
    // That of the profile, which the loader finds.
    if given.is_none() && config.profile.is_some() && config.endpoint.is_none() {
        return None;
    }
    let environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    given.or_else(environment).or_else(|| config.endpoint.is_some().then(|| DEFAULT_REGION.to_owned()))
}

impl Inner {
    fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.base)
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {}/{}", self.place, text::escape(key.as_str()))
    }

    /// Looks at an object. An answer to `HEAD` has no body that says why, so the same is asked with `GET`: a bucket that
    /// is gone, or a proxy without its server, is no missing object.
    async fn head(&self, key: &Key) -> Result<Option<HeadObjectOutput>> {
        let what = self.what("looking at", key);
        for _ in 0..LOOKS {
            let head = self.client.head_object().bucket(&self.bucket).key(self.object(key));
            let error = match with_key!(head, self).send().await {
                Ok(head) => return Ok(Some(head)),
                Err(e) => e,
            };
            let status = answer(&error).map_or(0, |a| a.status);
            if !(400..500).contains(&status) && status != 301 {
                return Err(self.names.failure(&what, error));
            }
            let get = self.client.get_object().bucket(&self.bucket).key(self.object(key)).range("bytes=0-0");
            match with_key!(get, self).send().await {
                Err(why) if answer(&why).is_some_and(|a| a.status == 404 && a.says_no_object()) => return Ok(None),
                // An empty object has no first byte.
                Err(why) if answer(&why).is_none_or(|a| a.status != 416) => return Err(self.names.failure(&what, why)),
                // It was created in between.
                _ if status == 404 => {}
                _ => return Err(self.names.failure(&what, error)),
            }
        }
        let why = format!("{what}: the server says that it is there, and that it is not");
        Err(Error::new(ErrorKind::Transient, why).hint("this may pass; see whether all parts of the server agree"))
    }

    /// The size of an object, with one request where [`Self::head`] needs two: the answer to `GET` says itself that there is
    /// no such object. What cannot be read, as an archived object, or has no first byte, is left to `head`.
    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        let get = self.client.get_object().bucket(&self.bucket).key(self.object(key)).range("bytes=0-0");
        match with_key!(get, self).send().await {
            Ok(output) => {
                let total = output.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
                if total.is_some() && output.content_length() == Some(1) {
                    // Its connection is free for others once the byte is read; what comes of it says nothing.
                    let _ = output.body.collect().await;
                    return Ok(total);
                }
            }
            Err(why) if answer(&why).is_some_and(|a| a.status == 404 && a.says_no_object()) => return Ok(None),
            // Another question would get the same answer, or wait as long for none.
            Err(why) if why.raw_response().is_none_or(|r| r.status().as_u16() >= 500 || r.status().as_u16() == 429) => {
                return Err(self.names.failure(&self.what("looking at", key), why));
            }
            Err(_) => {}
        }
        let size =
            |head: HeadObjectOutput| head.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        Ok(self.head(key).await?.map(size))
    }

    /// Puts `body`; with `new`, on the condition that there is no such object.
    /// The inner error is one of ours: the server took the body and says that it holds another.
    async fn put(&self, key: &Key, body: Bytes, new: bool) -> Result<Result<()>, SdkError<PutError, HttpResponse>> {
        let sums = self.proof.of(&body);
        let put = self.client.put_object().bucket(&self.bucket).key(self.object(key)).body(ByteStream::from(body));
        let put = put.set_checksum_crc32(sums.crc32()).set_content_md5(sums.md5());
        let put = put.set_storage_class(self.storage_class.clone()).set_server_side_encryption(self.sse.clone());
        let put = with_key!(put.set_ssekms_key_id(self.sse_kms_key_id.clone()), self);
        let put = if new { put.if_none_match("*") } else { put };
        let output = put.send().await?;
        let told = output.checksum_crc32();
        let differs = told.is_some_and(|told| sums.crc32().is_some_and(|sent| sent != told));
        Ok(if differs { Err(checksum::differs(&self.what("writing", key), ErrorKind::Transient)) } else { Ok(()) })
    }

    /// Creates an object that must not exist. The look before it covers servers that ignore the condition, and
    /// serves alone those that refuse it: there, two writers at the same moment could both succeed.
    async fn create(&self, key: &Key, body: Bytes) -> Result<()> {
        let what = self.what("creating", key);
        if self.size(key).await?.is_some() {
            return Err(Error::new(ErrorKind::Conflict, format!("{what}: it exists already")));
        }
        if !self.unconditional.load(Ordering::Relaxed) {
            match self.put(key, body.clone(), true).await {
                Ok(written) => return written,
                // Only then was it the condition that it refused.
                Err(e) if refuses_condition(&e) => {
                    self.put(key, body, false).await.unwrap_or_else(|e| Err(self.names.failure(&what, e)))?;
                    self.unconditional.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                // Some servers take the marker that a deletion left in a versioned bucket for an object.
                Err(e) if exists_already(&e) && self.size(key).await?.is_none() => {}
                Err(e) => return Err(self.names.failure(&what, e)),
            }
        }
        self.put(key, body, false).await.unwrap_or_else(|e| Err(self.names.failure(&what, e)))
    }
}

type PutError = aws_sdk_s3::operation::put_object::PutObjectError;

fn refuses_condition(error: &SdkError<PutError, HttpResponse>) -> bool {
    answer(error).is_some_and(|a| {
        a.status == 501
            || (a.status == 400 && matches!(a.code, "InvalidArgument" | "InvalidRequest" | "NotImplemented"))
    })
}

fn exists_already(error: &SdkError<PutError, HttpResponse>) -> bool {
    answer(error).is_some_and(|a| a.status == 412 || a.code == "PreconditionFailed")
}

#[async_trait]
impl Storage for S3 {
    fn place(&self) -> String {
        self.0.place.clone()
    }

    fn part_size(&self) -> usize {
        self.0.part_size
    }

    fn in_flight(&self) -> Option<&InFlight> {
        Some(&self.0.in_flight)
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        match mode {
            PutMode::CreateNew => self.0.create(key, body).await,
            PutMode::Overwrite => {
                let put = self.0.put(key, body, false).await;
                put.unwrap_or_else(|e| Err(self.0.names.failure(&self.0.what("writing", key), e)))
            }
        }
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::S3Upload::begin(Arc::clone(&self.0), key).await?))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let inner = &self.0;
        let what = inner.what("reading", key);
        let mut get = with_key!(inner.client.get_object().bucket(&inner.bucket).key(inner.object(key)), inner);
        if let Some(range) = &range {
            // HTTP has no empty range.
            if range.is_empty() {
                return match inner.head(key).await? {
                    Some(head) if head.content_length().unwrap_or_default() as u64 >= range.end => {
                        Ok(stream::empty().boxed())
                    }
                    Some(_) => Err(short(&what)),
                    None => Err(Error::new(ErrorKind::NotFound, format!("{what}: there is no such object"))),
                };
            }
            get = get.range(format!("bytes={}-{}", range.start, range.end - 1));
        }
        let output = match get.send().await {
            Ok(output) => output,
            Err(e) if answer(&e).is_some_and(|a| a.status == 416) => return Err(short(&what)),
            Err(e) => return Err(inner.names.failure(&what, e)),
        };
        let length = output.content_length().and_then(|n| u64::try_from(n).ok());
        let expected = match &range {
            Some(range) => {
                // Another one than was asked for, too: s3rver answers all of the object to a question for its first byte.
                if output.content_range().is_none() || length.is_some_and(|n| n > range.end - range.start) {
                    return Err(Error::new(ErrorKind::Unsupported, format!("{what}: the server ignores ranges")));
                }
                if length.is_some_and(|n| n < range.end - range.start) {
                    return Err(short(&what));
                }
                Some(range.end - range.start)
            }
            None => length,
        };
        Ok(body(Arc::clone(inner), what, output.body, expected))
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let size = self.0.size(key).await?;
        Ok(size.map(|size| ObjectInfo { key: key.clone(), size }))
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        paged::objects(&self.0, prefix).await
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        paged::level(&*self.0, prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let delete = self.0.client.delete_object().bucket(&self.0.bucket).key(self.0.object(key));
        match delete.send().await {
            Ok(_) => Ok(()),
            // AWS says nothing of it, some servers do.
            Err(e) if answer(&e).is_some_and(|a| a.code == "NoSuchKey") => Ok(()),
            Err(e) => Err(self.0.names.failure(&self.0.what("deleting", key), e)),
        }
    }

    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64> {
        listing::sweep(&self.0, prefix, age).await
    }

    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        listing::unfinished(&self.0, most).await
    }

    async fn freeing(&self, key: &Key) -> Result<Option<Freeing>> {
        versions::freeing(&self.0, key).await
    }

    async fn old_versions(&self) -> Result<Option<OldVersions>> {
        versions::old(&self.0).await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

fn short(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what}: the object is shorter than it should be"))
}

/// The chunks of a body, as they come. One that ends early, or breaks off, yields an error.
fn body(inner: Arc<Inner>, what: String, body: ByteStream, expected: Option<u64>) -> BoxStream<'static, Result<Bytes>> {
    stream::unfold(Some((body, 0u64)), move |state| {
        let (inner, what) = (Arc::clone(&inner), what.clone());
        async move {
            let (mut body, got) = state?;
            match body.next().await {
                Some(Ok(chunk)) => {
                    let got = got + chunk.len() as u64;
                    Some((Ok(chunk), Some((body, got))))
                }
                Some(Err(e)) => {
                    let error = inner.names.broken(&what, &e);
                    Some((Err(error), None))
                }
                None if expected.is_some_and(|n| n != got) => {
                    let why = format!("{what}: the answer ended after {got} bytes");
                    Some((Err(Error::new(ErrorKind::Transient, why)), None))
                }
                None => None,
            }
        }
    })
    .boxed()
}
