//! One connected deployment, or one member of it.

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf, doc, oid::ObjectId};
use mongodb::error::Result as DriverResult;
use mongodb::options::{ClientOptions, ConnectionString, HostInfo, ReadPreference, SelectionCriteria, ServerAddress};
use tokio_util::sync::CancellationToken;

use super::error::{self, Place};
use super::run::run;
use crate::domain::secret::Secret;
use crate::domain::service::ServerRole;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// How long an interactive check waits for a server.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a host that is no member of the replica set is asked whether it is a mongos.
const ROUTER_LIMIT: Duration = Duration::from_secs(2);

/// A command that reads or writes no bulk of data answers within this time, or the server is not well.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// What a server says about itself before anybody has to be authorised.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// The name the member has in the replica set's configuration, `host:port`.
    pub me: Option<String>,
    pub set_name: Option<String>,
    pub hosts: Vec<String>,
    pub passives: Vec<String>,
    pub arbiters: Vec<String>,
    pub primary: Option<String>,
    pub is_writable_primary: bool,
    pub is_secondary: bool,
    pub is_hidden: bool,
    pub is_arbiter: bool,
    /// The router of a sharded cluster.
    pub is_mongos: bool,
    /// A config server of a sharded cluster.
    pub is_config_server: bool,
    /// Started with `--replSet`, not initiated.
    pub is_uninitiated: bool,
    /// The last change it applied.
    pub last_write: Option<Timestamp>,
    /// Another after every start of the server process.
    pub process_id: Option<ObjectId>,
}

/// A connection to a deployment (for writes, which go to the primary) or, made by [`Server::direct`], to one member.
/// Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    place: Place,
    client: Client,
    options: ClientOptions,
    hello: Hello,
}

/// Whether the driver takes a connection string; nobody is contacted.
///
/// Errors: `Invalid`, without quoting a secret.
pub fn check_uri(service: &str, uri: &Secret) -> Result<()> {
    let refused = |e| error::connection_string(service, uri, &e);
    let parsed = ConnectionString::parse(uri.expose()).map_err(refused)?;
    // Of a name that leads to the hosts by DNS the rest is seen when it has been looked up.
    if let HostInfo::HostIdentifiers(_) = parsed.host_info
        && let Some(outcome) = ClientOptions::parse(parsed.clone()).into_future().now_or_never()
    {
        return outcome.map(drop).map_err(refused);
    }
    #[allow(deprecated, reason = "it is refused because the driver does not have it")]
    match parsed.socket_timeout {
        None => Ok(()),
        Some(_) => Err(error::refused_string(service, uri, "the driver does not support socketTimeoutMS")),
    }
}

/// What the server at `address` (`host:port`) says to anybody: without a login, because its users may be others than they
/// were, with the TLS that `uri` asks for.
///
/// Errors: as [`Server::connect`].
pub async fn greet(service: &str, uri: &Secret, address: &str, timeout: Duration) -> Result<Hello> {
    let mut options = read_options(service, uri, timeout).await?;
    options.credential = None;
    let server = Server::open(service.to_owned(), to_one(options, address)?, timeout).await?;
    Ok(server.hello().clone())
}

/// The hosts of a connection string, `host:port` each.
///
/// Errors: `Invalid`; `Unreachable` when their names cannot be looked up.
pub async fn hosts_of(service: &str, uri: &Secret, timeout: Duration) -> Result<Vec<String>> {
    let options = read_options(service, uri, timeout).await?;
    Ok(options.hosts.iter().map(ToString::to_string).collect())
}

/// The options for a connection to the member `address` alone.
fn to_one(mut options: ClientOptions, address: &str) -> Result<ClientOptions> {
    let parsed = ServerAddress::parse(address).map_err(|_| {
        let shown = crate::domain::text::quoted(address);
        Error::new(ErrorKind::Invalid, format!("{shown} is not the address of a member"))
    })?;
    options.hosts = vec![parsed];
    options.direct_connection = Some(true);
    options.repl_set_name = None;
    Ok(options)
}

/// The options of a connection string, as we use them.
pub(super) async fn read_options(service: &str, uri: &Secret, timeout: Duration) -> Result<ClientOptions> {
    let cancel = CancellationToken::new();
    let parsed = uri.expose().to_owned();
    // Looking up a mongodb+srv name is network traffic, which may hang like any other.
    let parsed = run(&cancel, Some(timeout), async move { ClientOptions::parse(parsed).await })
        .await
        .map_err(|e| e.context(format!("service {service}: looking up the hosts of the connection string")))?;
    let mut options = parsed.map_err(|e| error::connection_string(service, uri, &e))?;
    if options.load_balanced == Some(true) {
        return Err(Error::new(ErrorKind::Unsupported, format!("service {service} is behind a load balancer"))
            .hint("give the connection string of the replica set itself"));
    }
    options.app_name = Some("mongokeep".into());
    // A shorter patience that somebody wrote into the connection string stays.
    let timeout = options.server_selection_timeout.map_or(timeout, |t| t.min(timeout));
    options.server_selection_timeout = Some(timeout);
    options.connect_timeout = Some(options.connect_timeout.map_or(timeout, |t| t.min(timeout)));
    // Enough for the readers or writers of one job and its bookkeeping beside them.
    options.max_pool_size = Some(options.max_pool_size.unwrap_or(0).max(24));
    options.max_connecting = Some(4);
    // A command goes where we say, never where a preference in the connection string would have it.
    options.selection_criteria = None;
    options.read_concern = None;
    Ok(options)
}

impl Server {
    /// Connects to the deployment of `service` and says hello to its nearest member; `timeout` bounds the search for
    /// one (less, when the connection string says so).
    ///
    /// Errors: `Invalid` for a connection string that cannot be used, `Unreachable` (which names hosts and seconds),
    /// `Unauthenticated`.
    pub async fn connect(service: &str, uri: &Secret, timeout: Duration) -> Result<Self> {
        let options = read_options(service, uri, timeout).await?;
        let timeout = options.server_selection_timeout.unwrap_or(timeout);
        let error = match Self::open(service.to_owned(), options.clone(), timeout).await {
            Ok(server) => return Ok(server),
            Err(error) => error,
        };
        // The driver takes no mongos for a member of the replica set that the connection string names, and cannot say why.
        if error.kind() != ErrorKind::Unreachable || options.repl_set_name.is_none() {
            return Err(error);
        }
        let others = options.hosts.iter().map(ToString::to_string);
        let looks =
            others.map(|host| async move { greet(service, uri, &host, ROUTER_LIMIT).await.is_ok_and(|h| h.is_mongos) });
        if !futures_util::future::join_all(looks).await.contains(&true) {
            return Err(error);
        }
        let mut options = options;
        options.repl_set_name = None;
        Self::open(service.to_owned(), options, timeout).await
    }

    /// The same to the member `address` of the deployment behind `uri` alone.
    pub async fn member(service: &str, uri: &Secret, address: &str, timeout: Duration) -> Result<Self> {
        let options = to_one(read_options(service, uri, timeout).await?, address)?;
        Self::open(service.to_owned(), options, timeout).await
    }

    /// A connection to the member `address` (`host:port`) alone, with the same credentials and TLS.
    pub async fn direct(&self, address: &str) -> Result<Self> {
        let options = to_one(self.inner.options.clone(), address)?;
        let timeout = options.server_selection_timeout.unwrap_or(CHECK_TIMEOUT);
        Self::open(self.inner.place.service.clone(), options, timeout).await
    }

    /// The same again over connections of its own, with a login of its own.
    pub async fn again(&self) -> Result<Self> {
        let options = self.inner.options.clone();
        let timeout = options.server_selection_timeout.unwrap_or(CHECK_TIMEOUT);
        Self::open(self.inner.place.service.clone(), options, timeout).await
    }

    async fn open(service: String, options: ClientOptions, timeout: Duration) -> Result<Self> {
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let place = Place { service, hosts: hosts.join(","), seconds: timeout.as_secs().max(1) };
        let client = Client::with_options(options.clone())
            .map_err(|e| error::map(&place, "reading the connection string", &e))?;
        let admin = client.database("admin");
        let never = CancellationToken::new();
        let asked = run(&never, Some(timeout + Duration::from_secs(1)), async move {
            let nearest = SelectionCriteria::ReadPreference(ReadPreference::Nearest { options: None });
            admin.run_command(doc! {"hello": 1}).selection_criteria(nearest).await
        });
        let reply = asked.await.map_err(|e| {
            let hosts = crate::domain::text::escape(&place.hosts);
            e.context(format!("service {}: {hosts} accepts connections, but does not talk", place.service))
        })?;
        let hello = Hello::read(&reply.map_err(|e| error::map(&place, "saying hello", &e))?);
        Ok(Self { inner: Arc::new(Inner { place, client, options, hello }) })
    }

    /// The driver's client, for what [`Server::call`] is to run.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    pub fn service(&self) -> &str {
        &self.inner.place.service
    }

    /// `host:port[,host:port]` of the connection string, or the one member of [`Server::direct`].
    pub fn hosts(&self) -> &str {
        &self.inner.place.hosts
    }

    /// What the nearest member (or the only one) said when we connected.
    pub fn hello(&self) -> &Hello {
        &self.inner.hello
    }

    /// How it is connected to. They hold the password.
    pub(super) fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// Whether only the one member that the connection string names may be spoken to.
    pub fn is_direct(&self) -> bool {
        self.inner.options.direct_connection == Some(true)
    }

    /// Our error for what the driver reported while `doing` something here.
    pub fn error(&self, doing: &str, error: &mongodb::error::Error) -> Error {
        error::map(&self.inner.place, doing, error)
    }

    /// Runs a driver future (on a task of its own, so that a cancel never drops it half way) and maps its error.
    pub async fn call<T, F>(
        &self,
        cancel: &CancellationToken,
        limit: Option<Duration>,
        doing: &str,
        future: F,
    ) -> Result<T>
    where
        F: Future<Output = DriverResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        match run(cancel, limit, future).await {
            Ok(outcome) => outcome.map_err(|e| self.error(doing, &e)),
            Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
            Err(e) => Err(e.context(format!("service {}: {}", self.service(), crate::domain::text::escape(doing)))),
        }
    }

    /// Runs a command that answers with little data; on the whole deployment it goes to the primary.
    pub async fn command(&self, cancel: &CancellationToken, db: &str, command: Document) -> Result<Document> {
        let doing = format!("the command {}", command.keys().next().map_or("", String::as_str));
        let db = self.client().database(db);
        self.call(cancel, Some(COMMAND_LIMIT), &doing, async move { db.run_command(command).await }).await
    }

    /// All documents of a cursor command (`find`, `listCollections`, ...) as bytes. For results that are known to be
    /// small: everything is held in memory.
    pub async fn collect(
        &self,
        cancel: &CancellationToken,
        db: &str,
        command: Document,
    ) -> Result<Vec<RawDocumentBuf>> {
        use futures_util::StreamExt;
        let doing = format!("the command {}", command.keys().next().map_or("", String::as_str));
        let db = self.client().database(db);
        self.call(cancel, Some(COMMAND_LIMIT), &doing, async move {
            let mut cursor = db.run_cursor_command(command).batch().await?;
            let mut found = Vec::new();
            while let Some(batch) = cursor.next().await {
                for value in batch?.doc_slices()? {
                    if let Some(document) = value?.as_document() {
                        found.push(document.to_owned());
                    }
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Hello {
    pub(super) fn read(reply: &Document) -> Self {
        let text = |key: &str| reply.get_str(key).ok().map(str::to_owned);
        let flag = |key: &str| reply.get_bool(key).unwrap_or(false);
        let list = |key: &str| {
            let items = reply.get_array(key).ok();
            items.map(|a| a.iter().filter_map(|b| b.as_str().map(str::to_owned)).collect()).unwrap_or_default()
        };
        Self {
            me: text("me"),
            set_name: text("setName"),
            hosts: list("hosts"),
            passives: list("passives"),
            arbiters: list("arbiters"),
            primary: text("primary"),
            is_writable_primary: flag("isWritablePrimary"),
            is_secondary: flag("secondary"),
            is_hidden: flag("hidden"),
            is_arbiter: flag("arbiterOnly"),
            is_mongos: reply.get_str("msg").is_ok_and(|m| m == "isdbgrid"),
            is_config_server: reply.contains_key("configsvr"),
            is_uninitiated: flag("isreplicaset"),
            last_write: reply.get_document("lastWrite").ok().and_then(|l| ts(l.get_document("opTime").ok()?)),
            process_id: reply.get_document("topologyVersion").ok().and_then(|t| t.get_object_id("processId").ok()),
        }
    }

    /// What the server is in its deployment.
    pub fn role(&self) -> ServerRole {
        match self {
            Self { is_mongos: true, .. } => ServerRole::Router,
            Self { is_config_server: true, .. } => ServerRole::ConfigServer,
            Self { set_name: None, .. } => ServerRole::Standalone,
            Self { .. } => ServerRole::Member,
        }
    }
}

/// The position of an `opTime`.
pub(super) fn ts(optime: &Document) -> Option<Timestamp> {
    optime.get_timestamp("ts").ok().map(|t| Timestamp::new(t.time, t.increment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_refuses_is_refused_when_it_is_typed() {
        let check = |uri: &str| check_uri("prod", &Secret::new(uri));
        for good in ["mongodb://h/?replicaSet=rs&w=majority", "mongodb+srv://u:p@c.example.net/?retryWrites=true"] {
            check(good).unwrap();
        }
        for (bad, names) in [
            ("mongodb://u:hunter2@h/?socketTimeoutMS=1000", "socketTimeoutMS"),
            ("mongodb+srv://u:hunter2@c.example.net/?socketTimeoutMS=1000", "socketTimeoutMS"),
            ("mongodb://u:hunter2@h/?timeoutMS=1000", "timeoutms"),
            ("mongodb+srv://u:hunter2@c.example.net/?timeoutMS=1000", "timeoutms"),
            ("mongodb://u:hunter2@h,i/?directConnection=true", "directConnection"),
            ("mongodb://u:hunter2@h/?maxPoolSize=many", "maxpoolsize"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.full().contains(names) && !error.full().contains("hunter2"), "{bad}: {error}");
            assert_eq!(error.kind().exit_code(), 2);
        }
    }
}
