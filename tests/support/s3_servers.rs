//! S3 servers of others, each a real process on a free port of 127.0.0.1: versitygw, moto and s3rver.
//!
//! They are fetched once, see [`super::fetched`].

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    ObjectLockRule, VersioningConfiguration,
};
use mongokeep::domain::secret::Secret;
use mongokeep::storage::s3::S3Config;
use tempfile::TempDir;

use super::fetched::{Program, done, find, free_address};

pub const BUCKET: &str = "backups";
const REGION: &str = "us-east-1";

const VERSITYGW: Program = Program {
    what: "versitygw 1.8.0",
    folder: "versitygw-1.8.0",
    file: "versitygw",
    variable: "MONGOKEEP_VERSITYGW",
    fetch: |folder| {
        let mut go = Command::new("go");
        go.args(["install", "github.com/versity/versitygw/cmd/versitygw@v1.8.0"]);
        done(go.env("GOBIN", folder).env("CGO_ENABLED", "0"))
    },
};

const MOTO: Program = Program {
    what: "moto 5.2.5",
    folder: "moto-5.2.5",
    file: "bin/moto_server",
    variable: "MONGOKEEP_MOTO",
    fetch: |folder| {
        done(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin/python3"));
        done(pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "moto[server]==5.2.5"]))
    },
};

const S3RVER: Program = Program {
    what: "s3rver 3.7.1",
    folder: "s3rver-3.7.1",
    file: "node_modules/.bin/s3rver",
    variable: "MONGOKEEP_S3RVER",
    fetch: |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix"]).arg(folder);
        done(npm.arg("s3rver@3.7.1"))
    },
};

/// A server of somebody else, with an empty bucket. Stops when dropped.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    pub config: S3Config,
    child: Child,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a storage answers where servers differ.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Of several conditional writes at once, one succeeds. s3rver does not know conditions, and moto looks and writes
    /// without a lock.
    pub exclusive: bool,
    /// It lists in the order of the keys' bytes. s3rver lists a folder before the files beside it.
    pub ordered: bool,
    /// It tells when an upload began. moto tells a day of 2010.
    pub dated_uploads: bool,
    /// Folders are nothing but the keys below them. Where the bucket has versions, versitygw answers InternalError to the
    /// deletion of one, and lists those whose keys are all deleted.
    pub folders_are_no_keys: bool,
    /// It lists unfinished uploads. s3rver has not built it.
    pub lists_uploads: bool,
    /// It lists folders whose objects all lie in folders within. s3rver does not, so that nothing is found in it that is
    /// not known.
    pub deep_folders: bool,
    /// Its first byte can be read alone. s3rver answers the whole object.
    pub first_byte: bool,
    /// An upload that is given up while a part is sent leaves nothing. fake-gcs-server may leave the object: see
    /// `gcs_sessions`, with which `cloud_faults` asserts it of the same upload.
    pub forgets_what_is_cut_off: bool,
    /// Keys may hold every printable character.
    pub odd_characters: bool,
    /// How many objects a long listing has: more than one page, of a server that is written to quickly several.
    pub many: usize,
}

impl Habits {
    pub const OF_S3: Self = Self {
        exclusive: true,
        ordered: true,
        dated_uploads: true,
        folders_are_no_keys: true,
        lists_uploads: true,
        deep_folders: true,
        first_byte: true,
        forgets_what_is_cut_off: true,
        odd_characters: true,
        many: 1_050,
    };
}

/// What a bucket keeps of what is deleted or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    /// All versions.
    Versions,
    /// All versions, which nobody may delete for a day.
    Locked,
}

impl Server {
    pub async fn versitygw(keeps: Keeps) -> Option<Self> {
        let program = find(&VERSITYGW).await?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "versions"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["--quiet", "--port", &address.to_string(), "posix"]);
        if keeps != Keeps::Nothing {
            command.arg("--versioning-dir").arg(folder.path().join("versions"));
        }
        command.arg(folder.path().join("data"));
        command.env("ROOT_ACCESS_KEY", "AKIAEXAMPLE").env("ROOT_SECRET_KEY", "secret-of-the-test");
        let name = match keeps {
            Keeps::Nothing => "versitygw",
            Keeps::Versions => "versitygw, versioned",
            Keeps::Locked => "versitygw, locked",
        };
        let server = Self::start(name, command, address, folder, ("AKIAEXAMPLE", "secret-of-the-test"));
        server.create_bucket(keeps).await;
        Some(server)
    }

    pub async fn moto() -> Option<Self> {
        let program = find(&MOTO).await?;
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let server = Self::start("moto", command, address, tempfile::tempdir().unwrap(), ("AKIAEXAMPLE", "any"));
        server.create_bucket(Keeps::Nothing).await;
        Some(server)
    }

    pub async fn s3rver() -> Option<Self> {
        let program = find(&S3RVER).await?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["--silent", "--address", "127.0.0.1", "--port", &address.port().to_string(), "--directory"]);
        command.arg(folder.path()).args(["--configure-bucket", BUCKET]);
        // It makes its continuation tokens with a cipher that newer OpenSSL has put aside.
        command.env("NODE_OPTIONS", "--openssl-legacy-provider");
        // Its own, which cannot be changed.
        let server = Self::start("s3rver", command, address, folder, ("S3RVER", "S3RVER"));
        server.answers().await;
        Some(server)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        folder: TempDir,
        (id, secret): (&str, &str),
    ) -> Self {
        let log = File::create(folder.path().join("server.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(folder.path());
        let child = command.spawn().unwrap();
        let config = S3Config {
            bucket: BUCKET.into(),
            region: Some(REGION.into()),
            endpoint: Some(format!("http://{address}")),
            path_style: true,
            access_key_id: Some(id.into()),
            secret_access_key: Some(Secret::new(secret)),
            ..S3Config::default()
        };
        Self { name, address, config, child, folder }
    }

    /// What it does otherwise than Amazon, as it was seen.
    pub fn habits(&self) -> Habits {
        Habits {
            exclusive: self.name.starts_with("versitygw"),
            ordered: self.name != "s3rver",
            dated_uploads: self.name != "moto",
            folders_are_no_keys: matches!(self.name, "versitygw" | "moto"),
            lists_uploads: self.name != "s3rver",
            deep_folders: self.name != "s3rver",
            first_byte: self.name != "s3rver",
            forgets_what_is_cut_off: true,
            odd_characters: true,
            many: 1_050,
        }
    }

    /// A client of the server that is none of ours.
    pub fn client(&self) -> Client {
        let secret = self.config.secret_access_key.as_ref().unwrap().expose().to_owned();
        let id = self.config.access_key_id.clone().unwrap();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.address))
            .force_path_style(true)
            .credentials_provider(Credentials::new(id, secret, None, None, "test"))
            .build();
        Client::from_conf(config)
    }

    /// Returns when it takes connections.
    async fn answers(&self) {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(120), "{} does not start: {}", self.name, log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn create_bucket(&self, keeps: Keeps) {
        self.answers().await;
        let client = self.client();
        let locked = keeps == Keeps::Locked;
        client.create_bucket().bucket(BUCKET).object_lock_enabled_for_bucket(locked).send().await.unwrap();
        if keeps == Keeps::Versions {
            let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(enabled).send().await.unwrap();
        }
        if locked {
            let day = DefaultRetention::builder().mode(ObjectLockRetentionMode::Compliance).days(1).build();
            let rule = ObjectLockRule::builder().default_retention(day).build();
            let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
            let put = client.put_object_lock_configuration().bucket(BUCKET);
            put.object_lock_configuration(lock.build()).send().await.unwrap();
        }
    }
}
