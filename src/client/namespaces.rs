//! What a server holds, for whoever chooses a part of it.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::Client;
use crate::domain::namespace::NamespaceSize;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::connect::{CHECK_TIMEOUT, Server};
use crate::mongo::namespaces;

/// How long the whole listing may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How many collections are asked for their size at once.
const AT_ONCE: usize = 8;
/// The databases of the server itself.
const OF_SERVER: [&str; 3] = ["admin", "config", "local"];

impl Client {
    /// The collections of a service that its user may see, by name; those of the server itself are left out.
    ///
    /// Errors: `Unreachable`, also when it takes longer than 30 s.
    pub async fn service_namespaces(&self, name: &str) -> Result<Vec<NamespaceSize>> {
        let wanted = name.to_owned();
        let service = self.call(move |client| client.store.service(&wanted)).await?;
        let work = async {
            let server = Server::connect(name, &service.uri, CHECK_TIMEOUT).await?;
            let cancel = CancellationToken::new();
            let (databases, _) = namespaces::readable_databases(&server, &cancel).await?;
            let mut found = Vec::new();
            for db in databases.iter().filter(|db| !OF_SERVER.contains(&db.as_str())) {
                let listing = namespaces::list_database(&server, &cancel, db, Default::default()).await?;
                found.extend(listing.entries.into_iter().filter(|e| !e.ns.collection.starts_with("system.")));
            }
            let sized = stream::iter(found).map(|entry| {
                let (server, cancel) = (&server, &cancel);
                async move {
                    let size = match entry.kind.as_str() {
                        "view" => None,
                        _ => Some(namespaces::size(server, cancel, &entry.ns).await?),
                    };
                    // Of a time series a server counts the buckets.
                    let documents = size.filter(|_| entry.kind == "collection").map(|s| s.documents);
                    let bytes = size.map(|s| s.bytes);
                    Ok::<_, Error>(NamespaceSize { namespace: entry.ns, documents, bytes })
                }
            });
            let mut sized: Vec<NamespaceSize> = sized.buffer_unordered(AT_ONCE).try_collect().await?;
            sized.sort_by(|a, b| a.namespace.cmp(&b.namespace));
            Ok(sized)
        };
        let late = |_| {
            let text = format!("service {name}: it did not list its collections within {} s", LIMIT.as_secs());
            Error::new(ErrorKind::Unreachable, text).hint("type the names, or try again")
        };
        tokio::time::timeout(LIMIT, work).await.map_err(late)?
    }
}
