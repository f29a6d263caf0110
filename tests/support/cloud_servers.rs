//! Azure Blob Storage and Google Cloud Storage as their emulators, each a real process on a free port of 127.0.0.1: Azurite
//! and fake-gcs-server. They are fetched once, see [`super::fetched`].

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongokeep::domain::secret::Secret;
use mongokeep::storage::azure::AzureConfig;
use mongokeep::storage::gcs::GcsConfig;
use tempfile::TempDir;

use super::fetched::{Program, done, find, free_address};
use super::s3_servers::Habits;

/// Azurite takes accounts as it is told them, with keys in base64.
pub const ACCOUNT: &str = "acmebackups";
pub const ACCOUNT_KEY: &str = "c2VjcmV0LW9mLXRoZS10ZXN0LXNlY3JldC1vZi10aGUtdGVzdA==";
pub const CONTAINER: &str = "backups";
pub const BUCKET: &str = "backups";

const AZURITE: Program = Program {
    what: "Azurite 3.37.0",
    folder: "azurite-3.37.0",
    file: "node_modules/.bin/azurite-blob",
    variable: "MONGOKEEP_AZURITE",
    fetch: |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix"]).arg(folder);
        done(npm.arg("azurite@3.37.0"))
    },
};

const FAKE_GCS: Program = Program {
    what: "fake-gcs-server 1.56.1",
    folder: "fake-gcs-server-1.56.1",
    file: "fake-gcs-server",
    variable: "MONGOKEEP_FAKE_GCS_SERVER",
    fetch: |folder| {
        let mut go = Command::new("go");
        go.args(["install", "github.com/fsouza/fake-gcs-server@v1.56.1"]);
        done(go.env("GOBIN", folder).env("CGO_ENABLED", "0"))
    },
};

/// A process that stops when dropped.
struct Running {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    async fn start(name: &'static str, mut command: Command, address: SocketAddr, folder: TempDir) -> Self {
        let log = File::create(folder.path().join("server.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(folder.path());
        let running = Self { name, address, child: command.spawn().unwrap(), folder };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let log = || std::fs::read_to_string(running.folder.path().join("server.log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(120), "{} does not start: {}", running.name, log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        running
    }
}

/// An account with an empty container.
pub struct Azurite(Running);

impl Azurite {
    /// What it does otherwise than Azure, as it was seen.
    pub const HABITS: Habits = Habits { many: 2_500, ..Habits::OF_S3 };

    pub async fn start() -> Option<Self> {
        let program = find(&AZURITE).await?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string(), "--location"]);
        command.arg(folder.path()).args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"));
        let azurite = Self(Running::start("Azurite", command, address, folder).await);
        azurite.create_container().await;
        Some(azurite)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// How to reach it; change what differs.
    pub fn config(&self) -> AzureConfig {
        AzureConfig {
            account: ACCOUNT.into(),
            container: CONTAINER.into(),
            endpoint: Some(format!("http://{}/{ACCOUNT}", self.0.address)),
            account_key: Some(Secret::new(ACCOUNT_KEY)),
            ..AzureConfig::default()
        }
    }

    async fn create_container(&self) {
        use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
        use object_store::client::{HttpRequest, HttpRequestBody};
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(ACCOUNT_KEY).unwrap());
        let url = format!("http://{}/{ACCOUNT}/{CONTAINER}?restype=container", self.0.address);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = reqwest::Method::PUT;
        *request.uri_mut() = url.parse().unwrap();
        AzureAuthorizer::new(&key, ACCOUNT).try_authorize(&mut request).unwrap();
        let (parts, _) = request.into_parts();
        let answer = plain().put(url).headers(parts.headers).header("content-length", "0").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{:?}", answer.text().await);
    }
}

/// A project with an empty bucket.
pub struct FakeGcs(Running);

impl FakeGcs {
    /// Unfinished uploads of Google cannot be listed, and the emulator keeps them from nobody.
    pub const HABITS: Habits =
        Habits { lists_uploads: false, forgets_what_is_cut_off: false, many: 2_500, ..Habits::OF_S3 };

    pub async fn start() -> Option<Self> {
        Self::speaking(None).await
    }

    /// With TLS, by a certificate for 127.0.0.1 and its key, both PEM.
    pub async fn speaking(tls: Option<(&str, &str)>) -> Option<Self> {
        let program = find(&FAKE_GCS).await?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        let scheme = if tls.is_some() { "https" } else { "http" };
        if let Some((certificate, key)) = tls {
            for (flag, name, text) in
                [("-cert-location", "cert.pem", certificate), ("-private-key-location", "key.pem", key)]
            {
                std::fs::write(folder.path().join(name), text).unwrap();
                command.arg(flag).arg(folder.path().join(name));
            }
        }
        command.args(["-scheme", scheme, "-host", "127.0.0.1", "-port", &address.port().to_string()]);
        command.args(["-backend", "memory", "-public-host", &address.to_string(), "-log-level", "error"]);
        let fake = Self(Running::start("fake-gcs-server", command, address, folder).await);
        let url = format!("{scheme}://{address}/storage/v1/b?project=test");
        let body = format!("{{\"name\":\"{BUCKET}\"}}");
        // It may take its first connections before it serves them.
        let began = std::time::Instant::now();
        let answer = loop {
            let post = plain().post(&url).header("content-type", "application/json").body(body.clone());
            match post.send().await {
                Ok(answer) => break answer,
                Err(e) => assert!(began.elapsed() < std::time::Duration::from_secs(60), "{e}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        Some(fake)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// How to reach it; change what differs.
    pub fn config(&self) -> GcsConfig {
        GcsConfig {
            bucket: BUCKET.into(),
            endpoint: Some(format!("http://{}", self.0.address)),
            anonymous: true,
            ..GcsConfig::default()
        }
    }
}

/// A client of no system and no proxies.
pub fn plain() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap()
}

/// A key as Google hands it out, of an account that is nobody's.
pub fn service_account() -> String {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der = pair.as_der().unwrap();
    let text = BASE64.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let private = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    serde_json::json!({
        "type": "service_account", "project_id": "test", "private_key_id": "1", "private_key": private,
        "client_email": "backup@test.example", "client_id": "1",
    })
    .to_string()
}
