//! A replica set of real servers on this machine.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;

use super::{Mongod, Scratch, Server, ServerOptions, driver};
use crate::error::{self, Error, ErrorKind, Result};

const READY_LIMIT: Duration = Duration::from_secs(240);
const ROOT: &str = "root";
const ROOT_PASSWORD: &str = "mongokeep";

/// One member of a replica set.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// 0: never primary.
    pub priority: f64,
    /// Needs priority 0.
    pub hidden: bool,
}

impl Default for Member {
    fn default() -> Self {
        Self { priority: 1.0, hidden: false }
    }
}

/// How to start a replica set; the default is one member called `rs0`, without authentication.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaSetOptions {
    pub name: String,
    pub members: Vec<Member>,
    pub oplog_mb: u32,
    pub cache_gb: f64,
    /// Failpoints and commands that only tests use, such as `prepareTransaction`.
    pub test_commands: bool,
    /// With a key file, and a user `root` that [`ReplicaSet::uri`] logs in as.
    pub auth: bool,
    pub election_timeout: Duration,
    /// Passed on to each member as they are.
    pub args: Vec<String>,
}

impl Default for ReplicaSetOptions {
    fn default() -> Self {
        Self {
            name: "rs0".into(),
            members: vec![Member::default()],
            oplog_mb: 990,
            cache_gb: 0.25,
            test_commands: false,
            auth: false,
            election_timeout: Duration::from_secs(10),
            args: Vec::new(),
        }
    }
}

impl ReplicaSetOptions {
    /// `n` equal members.
    #[must_use]
    pub fn members(mut self, n: usize) -> Self {
        self.members = vec![Member::default(); n];
        self
    }

    #[must_use]
    pub fn test_commands(mut self) -> Self {
        self.test_commands = true;
        self
    }

    #[must_use]
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }
}

/// A running replica set. Dropping it kills all members and removes their data.
#[derive(Debug)]
pub struct ReplicaSet {
    mongod: Mongod,
    options: ReplicaSetOptions,
    /// `None` while a member is stopped.
    members: Vec<Option<Server>>,
    ports: Vec<u16>,
    scratch: Scratch,
}

impl ReplicaSet {
    /// Starts and initiates a replica set, and returns when it has a primary and all others are secondaries.
    pub async fn start(mongod: &Mongod, options: ReplicaSetOptions) -> Result<Self> {
        let scratch = Scratch::new()?;
        if options.auth {
            write_key_file(&scratch)?;
        }
        let count = options.members.len();
        let mut set =
            Self { mongod: mongod.clone(), options, members: Vec::new(), ports: Vec::with_capacity(count), scratch };
        for i in 0..count {
            // The first start picks the port; it stays the member's own afterwards.
            let server = Server::start(&set.mongod, &set.scratch, &set.server_options(i, None)).await?;
            set.ports.push(server.port());
            set.members.push(Some(server));
        }
        set.initiate().await?;
        if set.options.auth {
            set.create_root().await?;
        }
        set.wait_until_ready().await?;
        Ok(set)
    }

    fn server_options(&self, i: usize, port: Option<u16>) -> ServerOptions {
        let mut args = vec![
            "--replSet".to_owned(),
            self.options.name.clone(),
            "--oplogSize".to_owned(),
            self.options.oplog_mb.to_string(),
        ];
        if self.options.auth {
            args.push("--keyFile".into());
            args.push(self.scratch.path().join("keyfile").display().to_string());
        }
        args.extend(self.options.args.iter().cloned());
        ServerOptions {
            name: format!("member{i}"),
            port,
            cache_gb: self.options.cache_gb,
            test_commands: self.options.test_commands,
            args,
        }
    }

    async fn initiate(&self) -> Result<()> {
        let members: Vec<Document> = self
            .options
            .members
            .iter()
            .zip(&self.ports)
            .enumerate()
            .map(|(i, (member, port))| {
                doc! {
                    "_id": i as i32, "host": format!("127.0.0.1:{port}"),
                    "priority": member.priority, "hidden": member.hidden,
                }
            })
            .collect();
        let mut config = doc! {
            "_id": &self.options.name,
            "members": members,
            "settings": { "electionTimeoutMillis": self.options.election_timeout.as_millis() as i64 },
        };
        // Config servers are initiated as what they are.
        if self.options.args.iter().any(|arg| arg == "--configsvr") {
            config.insert("configsvr", true);
        }
        // The first member is the one that proposes itself, so it must be one that may become primary.
        let first = self.options.members.iter().position(|m| m.priority > 0.0).unwrap_or(0);
        // Without credentials: there are none yet, and a connection from this machine may initiate.
        let client = self.server(first)?.client()?;
        client
            .database("admin")
            .run_command(doc! {"replSetInitiate": config})
            .await
            .map_err(|e| driver("initiating the replica set", e))?;
        Ok(())
    }

    /// Creates the first user, as a connection from this machine may while there is none.
    async fn create_root(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + READY_LIMIT;
        loop {
            for i in 0..self.members.len() {
                let client = self.server(i)?.client()?;
                let hello = client.database("admin").run_command(doc! {"hello": 1}).await;
                if hello.is_ok_and(|h| h.get_bool("isWritablePrimary").unwrap_or(false)) {
                    client
                        .database("admin")
                        .run_command(doc! {"createUser": ROOT, "pwd": ROOT_PASSWORD, "roles": ["root"]})
                        .await
                        .map_err(|e| driver("creating the first user", e))?;
                    return Ok(());
                }
            }
            if tokio::time::Instant::now() > deadline {
                return Err(not_ready("no primary was elected"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns when there is a primary that takes writes and every running member is primary or secondary.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + READY_LIMIT;
        loop {
            let why = match self.states().await {
                Ok(states) if !states.contains(&1) => "no primary was elected".to_owned(),
                Ok(states) if states.iter().any(|s| *s != 1 && *s != 2) => {
                    format!("a member is neither primary nor secondary (states {states:?})")
                }
                Ok(_) => match self.primary().await {
                    Ok(_) => return Ok(()),
                    Err(e) => e.to_string(),
                },
                Err(e) => e.to_string(),
            };
            if tokio::time::Instant::now() > deadline {
                return Err(not_ready(&why));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `myState` of every running member, each asked itself.
    async fn states(&self) -> Result<Vec<i32>> {
        let mut states = Vec::new();
        for (i, member) in self.members.iter().enumerate() {
            if member.is_some() {
                let status = self
                    .direct_client(i)
                    .await?
                    .database("admin")
                    .run_command(doc! {"replSetGetStatus": 1})
                    .await
                    .map_err(|e| driver("reading the state of a member", e))?;
                states.push(status.get_i32("myState").unwrap_or(-1));
            }
        }
        Ok(states)
    }

    /// The member that is a primary taking writes now.
    pub async fn primary(&self) -> Result<usize> {
        for (i, member) in self.members.iter().enumerate() {
            if let Some(server) = member {
                let hello = server.client()?.database("admin").run_command(doc! {"hello": 1}).await;
                if hello.is_ok_and(|h| h.get_bool("isWritablePrimary").unwrap_or(false)) {
                    return Ok(i);
                }
            }
        }
        Err(not_ready("there is no primary"))
    }

    /// Returns the primary as soon as there is one.
    pub async fn wait_for_primary(&self) -> Result<usize> {
        let deadline = tokio::time::Instant::now() + READY_LIMIT;
        loop {
            match self.primary().await {
                Ok(i) => return Ok(i),
                Err(e) if tokio::time::Instant::now() > deadline => return Err(e),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A connection string of the whole set, with full rights.
    pub fn uri(&self) -> String {
        if self.options.auth { self.uri_as(ROOT, ROOT_PASSWORD) } else { self.build_uri("", "") }
    }

    /// The same for another user of the `admin` database. Both must be letters and digits.
    pub fn uri_as(&self, user: &str, password: &str) -> String {
        self.build_uri(&format!("{user}:{password}@"), "&authSource=admin")
    }

    fn build_uri(&self, credentials: &str, options: &str) -> String {
        // Hidden members are not announced, and a seed list needs only one that is.
        let hosts: Vec<String> = self
            .ports
            .iter()
            .zip(&self.options.members)
            .filter(|(_, member)| !member.hidden)
            .map(|(port, _)| format!("127.0.0.1:{port}"))
            .collect();
        format!("mongodb://{credentials}{}/?replicaSet={}{options}", hosts.join(","), self.options.name)
    }

    /// A connection string of one member alone, with full rights.
    pub fn direct_uri(&self, i: usize) -> String {
        let (credentials, options) = if self.options.auth {
            (format!("{ROOT}:{ROOT_PASSWORD}@"), "&authSource=admin")
        } else {
            (String::new(), "")
        };
        format!("mongodb://{credentials}127.0.0.1:{}/?directConnection=true{options}", self.ports[i])
    }

    /// A new client of the whole set, with full rights.
    pub async fn client(&self) -> Result<mongodb::Client> {
        client(&self.uri()).await
    }

    /// A new client of one member alone, with full rights.
    pub async fn direct_client(&self, i: usize) -> Result<mongodb::Client> {
        client(&self.direct_uri(i)).await
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// `127.0.0.1:port` of each member.
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// The folder that goes with the set; other short-lived things may be put there.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub fn mongod(&self) -> &Mongod {
        &self.mongod
    }

    /// The process of member `i`. `NotFound` while it is stopped.
    pub fn server(&self, i: usize) -> Result<&Server> {
        self.members
            .get(i)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("member {i} is not running")))
    }

    fn take(&mut self, i: usize) -> Result<Server> {
        self.members
            .get_mut(i)
            .and_then(Option::take)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("member {i} is not running")))
    }

    /// Shuts member `i` down in order.
    pub async fn stop_member(&mut self, i: usize) -> Result<()> {
        self.take(i)?.stop().await
    }

    /// Kills member `i` as `kill -9` does.
    pub async fn kill_member(&mut self, i: usize) -> Result<()> {
        self.take(i)?.kill().await
    }

    /// Starts a stopped member again on its old port and data; it may still be recovering when this returns.
    pub async fn start_member(&mut self, i: usize) -> Result<()> {
        if self.server(i).is_ok() {
            return Err(Error::new(ErrorKind::Conflict, format!("member {i} is running")));
        }
        let options = self.server_options(i, Some(self.ports[i]));
        self.members[i] = Some(Server::start(&self.mongod, &self.scratch, &options).await?);
        Ok(())
    }

    /// Has the primary step down, and returns the primary that follows, when it takes writes.
    pub async fn step_down(&self) -> Result<usize> {
        let old = self.wait_for_primary().await?;
        let result = self
            .direct_client(old)
            .await?
            .database("admin")
            .run_command(doc! {"replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 20})
            .await;
        if let Err(e) = result {
            // It may close the connection before it answers.
            if !matches!(*e.kind, mongodb::error::ErrorKind::Io(_)) {
                return Err(driver("stepping down", e));
            }
        }
        self.wait_for_primary().await
    }

    /// Kills all members, removes their data, and returns when both are gone.
    pub async fn stop(mut self) -> Result<()> {
        for member in self.members.drain(..).flatten() {
            member.kill().await?;
        }
        self.scratch.remove().await
    }
}

async fn client(uri: &str) -> Result<mongodb::Client> {
    let mut options = ClientOptions::parse(uri).await.map_err(|e| driver("reading a connection string", e))?;
    options.server_selection_timeout = Some(Duration::from_secs(30));
    mongodb::Client::with_options(options).map_err(|e| driver("making a client", e))
}

fn not_ready(why: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("the replica set is not ready: {why}"))
}

/// mongod refuses a key file that others can read.
fn write_key_file(scratch: &Scratch) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = scratch.path().join("keyfile");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        // Its only use is to tell these members apart from nothing at all.
        .and_then(|mut file| file.write_all(b"mongokeep/sandbox/key"))
        .map_err(|e| error::io(format_args!("writing {}", path.display()), e))
}
