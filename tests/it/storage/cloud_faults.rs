//! What goes wrong between here and a cloud: what is repeated, what is told, and how soon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::TryStreamExt;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::error::{Error, ErrorKind};
use mongokeep::storage::azure::AzureConfig;
use mongokeep::storage::gcs::GcsConfig;
use mongokeep::storage::retry::{Backoff, Retrying};
use mongokeep::storage::{ObjectWriter, PutMode, Storage, read_all};
use tokio_util::sync::CancellationToken;

use crate::support::cloud_servers::{ACCOUNT, ACCOUNT_KEY, Azurite, FakeGcs, service_account};
use crate::support::gcs_sessions::Sessions;
use crate::support::objects::{key, noise};
use crate::support::proxy::{Fault, Proxy};
use crate::support::stopwatch::Stopwatch;

async fn open(config: impl Into<StorageConfig>) -> Arc<dyn Storage> {
    mongokeep::storage::open(&config.into()).await.unwrap()
}

/// Repeats soon, so that the tests are quick.
fn retrying(storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
    let soon = Backoff {
        attempts: 6,
        first: Duration::from_millis(5),
        longest: Duration::from_millis(20),
        ..Backoff::default()
    };
    Arc::new(Retrying::new(storage, soon, CancellationToken::new()))
}

async fn failed<T>(call: impl Future<Output = mongokeep::error::Result<T>>) -> Error {
    match call.await {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e,
    }
}

fn told(error: &Error) -> String {
    format!("{} ({})", error.full(), error.hint_text().unwrap_or_default())
}

/// One of both clouds; each test runs with each.
enum Cloud {
    Azure(Azurite),
    /// The emulator, and uploads as Google has them in front of it.
    Gcs(FakeGcs, Sessions),
}

impl Cloud {
    async fn azure() -> Option<Self> {
        Azurite::start().await.map(Self::Azure)
    }

    async fn gcs() -> Option<Self> {
        let fake = FakeGcs::start().await?;
        let sessions = Sessions::start(fake.address()).await;
        Some(Self::Gcs(fake, sessions))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Azure(azurite) => azurite.address(),
            Self::Gcs(_, sessions) => sessions.address,
        }
    }

    fn at(&self, scheme: &str, address: &str) -> StorageConfig {
        match self {
            Self::Azure(azurite) => {
                let endpoint = Some(format!("{scheme}://{address}/{ACCOUNT}"));
                (&AzureConfig { endpoint, ..azurite.config() }).into()
            }
            Self::Gcs(fake, _) => {
                let endpoint = Some(format!("{scheme}://{address}"));
                (&GcsConfig { endpoint, ..fake.config() }).into()
            }
        }
    }

    async fn storage(&self) -> Arc<dyn Storage> {
        open(self.at("http", &self.address().to_string())).await
    }

    /// Through a proxy with these faults.
    async fn through(&self, faults: impl IntoIterator<Item = Fault>) -> (Proxy, Arc<dyn Storage>) {
        let proxy = Proxy::start(self.address(), faults).await;
        let storage = open(self.at("http", &proxy.address.to_string())).await;
        (proxy, storage)
    }

    /// As the cloud refuses: a status, and its own word for why.
    fn refusal(&self, status: &str, code: &str) -> Fault {
        let (kind, header, body) = match self {
            Self::Azure(_) => {
                let body = format!(
                    "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told by a test</Message></Error>"
                );
                ("application/xml", format!("x-ms-error-code: {code}\r\n"), body)
            }
            Self::Gcs(..) => {
                let number = &status[..3];
                let body = format!(
                    "{{\"error\":{{\"code\":{number},\"message\":\"told by a test\",\"errors\":[{{\"reason\":\"{code}\"}}]}}}}"
                );
                ("application/json", String::new(), body)
            }
        };
        Fault::Answer(format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// The words for: overloaded, wrong credentials, no right, no container, full or too many.
    fn codes(&self) -> [(&'static str, &'static str, ErrorKind, &'static str); 9] {
        match self {
            Self::Azure(_) => [
                ("503 Server Busy", "ServerBusy", ErrorKind::Transient, "may pass"),
                ("500 Internal Server Error", "InternalError", ErrorKind::Transient, "may pass"),
                ("403 Forbidden", "AuthenticationFailed", ErrorKind::Unauthenticated, "--account-key-file"),
                ("401 Unauthorized", "InvalidAuthenticationInfo", ErrorKind::Unauthenticated, "--account-key-file"),
                (
                    "403 Forbidden",
                    "AuthorizationPermissionMismatch",
                    ErrorKind::Denied,
                    "Storage Blob Data Contributor",
                ),
                ("404 Not Found", "ContainerNotFound", ErrorKind::NotFound, "there is no container backups"),
                ("409 Conflict", "ContainerBeingDeleted", ErrorKind::Transient, "may pass"),
                ("409 Conflict", "BlobImmutableDueToPolicy", ErrorKind::Denied, "immutability policy"),
                ("400 Bad Request", "SomethingNew", ErrorKind::Failed, "SomethingNew: told by a test"),
            ],
            Self::Gcs(..) => [
                ("503 Service Unavailable", "backendError", ErrorKind::Transient, "may pass"),
                ("429 Too Many Requests", "rateLimitExceeded", ErrorKind::Transient, "may pass"),
                ("401 Unauthorized", "authError", ErrorKind::Unauthenticated, "check the credentials"),
                ("403 Forbidden", "userRateLimitExceeded", ErrorKind::Transient, "may pass"),
                ("403 Forbidden", "forbidden", ErrorKind::Denied, "roles/storage.objectUser"),
                ("404 Not Found", "notFound", ErrorKind::NotFound, "there is no bucket backups"),
                ("409 Conflict", "conflict", ErrorKind::Transient, "may pass"),
                ("403 Forbidden", "retentionPolicyNotMet", ErrorKind::Denied, "retention policy"),
                ("400 Bad Request", "somethingNew", ErrorKind::Failed, "somethingNew: told by a test"),
            ],
        }
    }
}

macro_rules! both {
    ($($case:ident),* $(,)?) => {
        mod azure {
            $(#[tokio::test]
            async fn $case() {
                if let Some(cloud) = super::Cloud::azure().await {
                    super::$case(cloud).await;
                }
            })*
        }
        mod gcs {
            $(#[tokio::test]
            async fn $case() {
                if let Some(cloud) = super::Cloud::gcs().await {
                    super::$case(cloud).await;
                }
            })*
        }
    };
}

both!(
    what_breaks_off_is_repeated,
    a_broken_stream_goes_on_where_it_broke,
    lost_answers_are_recognised,
    a_large_object_survives_a_bad_network,
    refusals_are_told_apart,
    only_the_service_itself_says_that_an_object_is_missing,
    what_does_not_answer_is_told_within_ten_seconds,
);

async fn what_breaks_off_is_repeated(cloud: Cloud) {
    let (status, code, ..) = cloud.codes()[0];
    let faults = [Fault::Refuse, cloud.refusal(status, code), Fault::CutRequest(100_000), Fault::CutAnswer(40)];
    let (proxy, storage) = cloud.through(faults).await;
    let body = noise(1_000_000);
    retrying(Arc::clone(&storage)).put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
    assert!(proxy.is_spent());
    assert!(read_all(&*storage, &key("a"), 2_000_000).await.unwrap() == body);
    // Bare, nothing is repeated, and what broke off is no object.
    let (_proxy, storage) = cloud.through([Fault::CutRequest(100_000)]).await;
    let error = failed(storage.put(&key("b"), body, PutMode::Overwrite)).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(storage.stat(&key("b")).await.unwrap().is_none());
}

async fn a_broken_stream_goes_on_where_it_broke(cloud: Cloud) {
    let body = noise(20_000_000);
    cloud.storage().await.put(&key("a"), body.clone(), PutMode::Overwrite).await.unwrap();
    for range in [None, Some(1_000_000..19_000_000)] {
        let (proxy, storage) = cloud.through(vec![Fault::CutAnswer(3_000_000); 4]).await;
        let stream = retrying(storage).get(&key("a"), range.clone()).await.unwrap();
        let got: Vec<Bytes> = stream.try_collect().await.unwrap();
        let range = range.unwrap_or(0..20_000_000);
        assert!(got.concat() == body[range.start as usize..range.end as usize]);
        assert!(proxy.is_spent());
        assert!(proxy.bytes_from_server() < 21_000_000, "{}", proxy.bytes_from_server());
    }
    let (_proxy, storage) = cloud.through([Fault::CutAnswer(400_000)]).await;
    let error = storage.get(&key("a"), None).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert!(error.is_retryable(), "truncated without the decorator: {error:?}");
}

async fn lost_answers_are_recognised(cloud: Cloud) {
    let (proxy, storage) = cloud.through([Fault::LoseAnswer("P", "attempt")]).await;
    // Google's objects are named in the body, so there it is the first request.
    let lose = match &cloud {
        Cloud::Azure(_) => (proxy, storage),
        Cloud::Gcs(..) => cloud.through([Fault::LoseAnswer("POST", "ifGenerationMatch=0")]).await,
    };
    retrying(lose.1).put(&key("attempt"), noise(100), PutMode::CreateNew).await.unwrap();
    assert!(lose.0.is_spent());
    let error = failed(cloud.storage().await.put(&key("attempt"), noise(101), PutMode::CreateNew)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "somebody else's is not ours: {error:?}");

    // The end of an upload, and a part in the middle of it.
    let lost = match &cloud {
        Cloud::Azure(_) => [("PUT", "comp=blocklist"), ("PUT", "comp=block&")],
        Cloud::Gcs(..) => [("PUT", "upload_id="), ("PUT", "upload_id=")],
    };
    let body = noise(11 << 20);
    for (n, (method, part)) in lost.into_iter().enumerate() {
        let before = if n == 0 && matches!(cloud, Cloud::Gcs(..)) { 2 } else { 0 };
        let (proxy, storage) = cloud.through([]).await;
        let at = key(&format!("big/{n}"));
        let upload = retrying(Arc::clone(&storage)).upload(&at).await.unwrap();
        let part_of = |n: usize| body.slice(n * (5 << 20)..((n + 1) * (5 << 20)).min(body.len()));
        // Connections are used again: those of now are cut, and the next one loses its answer.
        if before == 0 {
            proxy.cut([Fault::LoseAnswer(method, part)]);
        }
        for n in 0..3 {
            upload.part(n, part_of(n as usize)).await.unwrap();
        }
        if before > 0 {
            proxy.cut([Fault::LoseAnswer(method, part)]);
        }
        upload.finish(3).await.unwrap();
        upload.finish(3).await.unwrap();
        assert!(proxy.is_spent(), "{method} {part}");
        assert!(read_all(&*storage, &at, 12 << 20).await.unwrap() == body, "{method} {part}");
    }
}

async fn a_large_object_survives_a_bad_network(cloud: Cloud) {
    let (status, code, ..) = cloud.codes()[0];
    let faults = [
        Fault::None,
        Fault::CutRequest(2_000_000),
        cloud.refusal(status, code),
        Fault::Refuse,
        Fault::CutRequest(6_000_000),
    ];
    let (proxy, storage) = cloud.through(faults).await;
    let body = noise(33 << 20);
    let mut writer = ObjectWriter::new(retrying(Arc::clone(&storage)), key("big")).in_flight(3);
    for (n, chunk) in body.chunks(700_001).enumerate() {
        if n % 9 == 0 {
            proxy.cut([]);
        }
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let written = writer.finish().await.unwrap();
    assert!(proxy.is_spent());
    assert_eq!(written.blake3, blake3::hash(&body).to_hex().as_str());
    assert!(read_all(&*storage, &key("big"), 40 << 20).await.unwrap() == body);
    // One that is given up leaves nothing.
    let mut writer = ObjectWriter::new(Arc::clone(&storage), key("given/up"));
    writer.write(noise(12 << 20)).await.unwrap();
    writer.abort().await.unwrap();
    assert!(storage.stat(&key("given/up")).await.unwrap().is_none());
    if let Cloud::Gcs(_, sessions) = &cloud {
        assert_eq!(sessions.unfinished(), 0);
    }
}

async fn refusals_are_told_apart(cloud: Cloud) {
    for (status, code, kind, says) in cloud.codes() {
        let (_proxy, storage) = cloud.through([cloud.refusal(status, code)]).await;
        let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
        assert!(told(&error).contains(says) && told(&error).contains("backups/a"), "{code}: {}", told(&error));
        assert!(!told(&error).contains(ACCOUNT_KEY));
    }
    let page = "<html><body>nginx</body></html>";
    for (status, kind) in [
        ("502 Bad Gateway", ErrorKind::Transient),
        ("404 Not Found", ErrorKind::Transient),
        ("403 Forbidden", ErrorKind::Transient),
        ("413 Content Too Large", ErrorKind::Failed),
        ("407 Proxy Authentication Required", ErrorKind::Unauthenticated),
        ("301 Moved Permanently", ErrorKind::Failed),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
        let (_proxy, storage) = cloud.through([Fault::Answer(answer)]).await;
        let error = failed(storage.put(&key("a"), noise(10), PutMode::Overwrite)).await;
        assert_eq!(error.kind(), kind, "{status}: {error:?}");
    }
}

/// A proxy without its server, or a container that is gone, is no missing object: a manifest that is there would be.
async fn only_the_service_itself_says_that_an_object_is_missing(cloud: Cloud) {
    cloud.storage().await.put(&key("manifest"), noise(10), PutMode::Overwrite).await.unwrap();
    let page = "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    let (_proxy, storage) = cloud.through([Fault::Answer(page.into())]).await;
    let error = failed(storage.stat(&key("manifest"))).await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    assert!(storage.stat(&key("never")).await.unwrap().is_none());
    let gone: StorageConfig = match &cloud {
        Cloud::Azure(azurite) => (&AzureConfig { container: "nowhere".into(), ..azurite.config() }).into(),
        Cloud::Gcs(fake, _) => (&GcsConfig { bucket: "nowhere".into(), ..fake.config() }).into(),
    };
    let gone = open(gone).await;
    let a = key("a");
    for error in [
        failed(gone.stat(&a)).await,
        failed(gone.put(&a, noise(1), PutMode::Overwrite)).await,
        failed(gone.upload(&a)).await,
        failed(gone.get(&a, None)).await,
        failed(gone.list(None)).await,
        failed(gone.list_folders(None)).await,
        failed(gone.sweep(&a)).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains("nowhere at http"), "{error:?}");
    }
}

async fn what_does_not_answer_is_told_within_ten_seconds(cloud: Cloud) {
    // A port that was free a moment ago.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let stalling = Proxy::start(cloud.address(), vec![Fault::Stall; 100]).await;
    let stalling = stalling.address.to_string();
    let open_port = cloud.address().to_string();
    for (scheme, address, says) in [
        ("http", closed.as_str(), "refused"),
        ("http", "storage.invalid:9000", "storage.invalid"),
        ("http", stalling.as_str(), "no answer"),
        ("https", open_port.as_str(), "http://"),
    ] {
        let storage = open(cloud.at(scheme, address)).await;
        let began = Stopwatch::start();
        let steps = mongokeep::storage::test(&*storage, &|_| {}).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{says}: {:?}", began.elapsed());
        assert!(steps.len() == 1 && steps[0].detail.contains(says), "{says}: {steps:?}");
    }
}

async fn all_steps(config: impl Into<StorageConfig>) {
    let steps = mongokeep::storage::test(&*open(config).await, &|_| {}).await;
    assert!(steps.len() == 7 && steps.iter().all(|step| step.ok), "{steps:?}");
}

/// A SAS token of the account for everything, made as Microsoft documents it for version 2020-12-06.
fn sas(expires: &str) -> String {
    let secret = BASE64.decode(ACCOUNT_KEY).unwrap();
    let to_sign = format!("{ACCOUNT}\nracwdl\nb\nsco\n\n{expires}\n\n\n2020-12-06\n\n");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
    let signature = BASE64.encode(aws_lc_rs::hmac::sign(&key, to_sign.as_bytes()));
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv=2020-12-06&ss=b&srt=sco&sp=racwdl&se={}&sig={signature}", expires.replace(':', "%3A"))
}

#[tokio::test]
async fn azure_takes_each_kind_of_credentials_and_wrong_ones_are_told() {
    let Some(azurite) = Azurite::start().await else { return };
    let without = AzureConfig { account_key: None, ..azurite.config() };
    let token = AzureConfig { sas_token: Some(Secret::new(sas("2099-01-01T00:00:00Z"))), ..without.clone() };
    all_steps(&token).await;
    let text = format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint=http://{}/{ACCOUNT};",
        azurite.address()
    );
    let string = AzureConfig { connection_string: Some(Secret::new(text)), endpoint: None, ..without.clone() };
    all_steps(&string).await;

    let other = BASE64.encode("another-secret");
    for (config, flag) in [
        (AzureConfig { account_key: Some(Secret::new(other.clone())), ..without.clone() }, "--account-key-file"),
        (
            AzureConfig { sas_token: Some(Secret::new(sas("2001-01-01T00:00:00Z"))), ..without.clone() },
            "--sas-token-file",
        ),
        (
            AzureConfig {
                account: "nobodys".into(),
                endpoint: Some(format!("http://{}/nobodys", azurite.address())),
                ..azurite.config()
            },
            "there is no account nobodys",
        ),
    ] {
        let error = failed(open(&config).await.list(None)).await;
        assert!(matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::NotFound), "{error:?}");
        let steps = mongokeep::storage::test(&*open(&config).await, &|_| {}).await;
        assert!(steps.len() == 1 && steps[0].detail.contains(flag), "{steps:?}");
        for secret in [other.as_str(), ACCOUNT_KEY, "sig="] {
            assert!(!steps[0].detail.contains(secret) && !told(&error).contains(secret), "{steps:?}");
        }
    }
}

/// The test below starts this one in a process of its own, whose environment it can choose.
const CHILD: &str = "MONGOKEEP_TEST_CHILD_CLOUD";

#[tokio::test]
async fn credentials_come_from_the_environment_when_none_are_given() {
    if let Ok(which) = std::env::var(CHILD) {
        let (kind, endpoint) = which.split_once(' ').unwrap();
        let endpoint = Some(endpoint.to_owned());
        let config: StorageConfig = if kind == "azure" {
            (&AzureConfig { account: ACCOUNT.into(), container: "backups".into(), endpoint, ..AzureConfig::default() })
                .into()
        } else {
            (&GcsConfig { bucket: "backups".into(), endpoint, ..GcsConfig::default() }).into()
        };
        match mongokeep::storage::open(&config).await {
            Ok(storage) => {
                for step in mongokeep::storage::test(&*storage, &|_| {}).await {
                    println!("{} {} {}", step.id, step.ok, step.detail);
                }
            }
            Err(e) => println!("open false {}", told(&e)),
        }
        return;
    }
    let run = async |which: String, variables: &[(&str, &str)]| {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "storage::cloud_faults::credentials_come_from_the_environment_when_none_are_given",
                "--nocapture",
            ])
            .env_clear()
            .env(CHILD, which)
            .env("HOME", "/nonexistent")
            .envs(variables.iter().copied())
            .output()
            .await
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    if let Some(azurite) = Azurite::start().await {
        let which = format!("azure http://{}/{ACCOUNT}", azurite.address());
        let told = run(which.clone(), &[("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)]).await;
        assert!(told.contains("delete true"), "{told}");
        // The service of the machine that hands credentials out, at an address where nobody is.
        let told = run(which, &[("IDENTITY_ENDPOINT", "http://127.0.0.1:9/token")]).await;
        assert!(told.contains("list false") && told.contains("there are no credentials"), "{told}");
        assert!(told.contains("AZURE_CLIENT_ID"), "{told}");
    }
    if let Some(fake) = FakeGcs::start().await {
        let sessions = Sessions::start(fake.address()).await;
        let which = format!("gcs http://{}", sessions.address);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), service_account()).unwrap();
        let told = run(which.clone(), &[("GOOGLE_APPLICATION_CREDENTIALS", file.path().to_str().unwrap())]).await;
        assert!(told.contains("delete true"), "{told}");
        assert!(sessions.authorization().unwrap().starts_with("Bearer ey"));
        let told = run(which, &[("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")]).await;
        assert!(told.contains("open false") && told.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{told}");

        // The same key as a field of the storage.
        let config = GcsConfig {
            credentials: Some(Secret::new(service_account())),
            anonymous: false,
            endpoint: Some(format!("http://{}", sessions.address)),
            ..fake.config()
        };
        all_steps(&config).await;
        assert!(sessions.authorization().unwrap().starts_with("Bearer ey"));
        let config = GcsConfig { credentials: None, anonymous: true, ..config };
        all_steps(&config).await;
        assert_eq!(sessions.authorization(), None);
    }
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, private) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Some(fake) = FakeGcs::speaking(Some((&certificate, &private))).await else { return };
    let trusting = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusting.path(), &certificate).unwrap();
    let ca_file = Some(trusting.path().to_str().unwrap().to_owned());
    let another = tempfile::NamedTempFile::new().unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(another.path(), other.cert.pem()).unwrap();
    let config = GcsConfig { endpoint: Some(format!("https://{}", fake.address())), ..fake.config() };

    let distrusted = GcsConfig { ca_file: Some(another.path().to_str().unwrap().into()), ..config.clone() };
    let error = failed(open(&distrusted).await.list(None)).await;
    assert_eq!(error.kind(), ErrorKind::Failed, "a certificate does not get better by waiting: {error:?}");
    assert!(told(&error).contains("not trusted") && told(&error).contains("--ca-file"), "{}", told(&error));
    let stat = open(&GcsConfig { ca_file, ..config.clone() }).await.stat(&key("never")).await.unwrap();
    assert!(stat.is_none());
    let stat = open(&GcsConfig { insecure_skip_tls_verify: true, ..config }).await.stat(&key("never")).await.unwrap();
    assert!(stat.is_none());
}
