//! What a connection string leads to, before anything is done with it: a look that takes seconds at most.

use std::time::Duration;

use futures_util::future::select_ok;
use mongodb::bson::{Document, doc};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connect::{Server, greet, hosts_of};
use super::sharding;
use crate::domain::secret::Secret;
use crate::domain::service::ServerRole;
use crate::domain::uri;

/// How long each step of the look may take. A person waits for it.
pub const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// What the nearest server of a connection string is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployment {
    /// A mongos.
    Router { config_servers: Option<ConfigServers> },
    /// A member of the config servers' replica set.
    ConfigServers,
    /// A member of a shard.
    Shard { name: String, config_servers: Option<ConfigServers> },
    /// Anything else.
    Other,
}

/// Where the config servers of a cluster are: `name/host:port[,host:port]`, which makes a connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigServers(String);

impl ConfigServers {
    /// `None` for a text of a server that is no such place.
    fn of(text: &str) -> Option<Self> {
        uri::of_set(text).map(|_| Self(text.to_owned()))
    }

    /// A connection string to them, without credentials.
    pub fn uri(&self) -> String {
        uri::of_set(&self.0).unwrap_or_default()
    }

    /// The same with the credentials and options of `given`.
    pub fn uri_like(&self, given: &Secret) -> Option<Secret> {
        uri::leading_to(given.expose(), &self.0).map(Secret::new)
    }
}

/// Looks at the server behind `uri`. `None` when none answers in time, or none says what it is: then nothing is known.
pub async fn deployment(service: &str, uri: &Secret) -> Option<Deployment> {
    let address = first_open(service, uri).await?;
    // Without a login and without the name of a replica set, which a mongos does not have.
    let hello = greet(service, uri, &address, LOOK_LIMIT).await.ok()?;
    let role = hello.role();
    match role {
        ServerRole::ConfigServer => return Some(Deployment::ConfigServers),
        ServerRole::Standalone => return Some(Deployment::Other),
        ServerRole::Router | ServerRole::Member => {}
    }
    // Who may not log in, or not ask, still knows that it is a mongos.
    let server = Server::member(service, uri, &address, LOOK_LIMIT).await.ok();
    if role == ServerRole::Router {
        let config_servers = match &server {
            Some(server) => of_router(server).await,
            None => None,
        };
        return Some(Deployment::Router { config_servers });
    }
    let identity = match &server {
        Some(server) => sharding::shard_identity(server, &CancellationToken::new()).await.ok().flatten(),
        None => None,
    };
    Some(identity.map_or(Deployment::Other, |identity| Deployment::Shard {
        name: identity.get_str("shardName").unwrap_or_default().to_owned(),
        config_servers: identity.get_str("configsvrConnectionString").ok().and_then(ConfigServers::of),
    }))
}

/// The first of the hosts that takes a connection: one that does not is found out sooner than the driver does.
async fn first_open(service: &str, uri: &Secret) -> Option<String> {
    let hosts = hosts_of(service, uri, LOOK_LIMIT).await.ok()?;
    let connects = hosts.into_iter().map(|host| Box::pin(async move { TcpStream::connect(&host).await.map(|_| host) }));
    let connects: Vec<_> = connects.collect();
    if connects.is_empty() {
        return None;
    }
    timeout(LOOK_LIMIT, select_ok(connects)).await.ok()?.ok().map(|(host, _)| host)
}

/// A mongos says where the config servers are in `getShardMap` and in `serverStatus`; the role clusterMonitor allows both.
async fn of_router(server: &Server) -> Option<ConfigServers> {
    let map = ask(server, doc! {"getShardMap": 1}).await;
    if let Some(text) = map.as_ref().and_then(|map| map.get_document("map").ok()?.get_str("config").ok()) {
        return ConfigServers::of(text);
    }
    let status = ask(server, doc! {"serverStatus": 1, "repl": 0, "metrics": 0, "tcmalloc": 0}).await?;
    let text = status.get_document("sharding").ok()?.get_str("configsvrConnectionString").ok()?;
    ConfigServers::of(text)
}

async fn ask(server: &Server, command: Document) -> Option<Document> {
    timeout(LOOK_LIMIT, server.command(&CancellationToken::new(), "admin", command)).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_servers_keep_the_credentials_of_the_mongos() {
        let servers = ConfigServers::of("cfg/c1:27019").unwrap();
        assert_eq!(servers.uri(), "mongodb://c1:27019/?replicaSet=cfg");
        let like = servers.uri_like(&Secret::new("mongodb://u:hunter2@m:27017/?authSource=admin")).unwrap();
        assert_eq!(like.expose(), "mongodb://u:hunter2@c1:27019/?authSource=admin&replicaSet=cfg");
        assert_eq!(ConfigServers::of("no place"), None);
    }

    #[tokio::test]
    async fn nobody_there_is_soon_known() {
        let began = std::time::Instant::now();
        assert_eq!(deployment("src", &Secret::new("mongodb://127.0.0.1:1/?replicaSet=rs0")).await, None);
        // Two questions, each with its limit, and what a busy machine takes.
        assert!(began.elapsed() < 2 * LOOK_LIMIT + Duration::from_secs(10));
    }
}
