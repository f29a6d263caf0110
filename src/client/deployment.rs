//! What a service leads to, looked at before it is saved: a sharded cluster needs another engine than a replica set.
//!
//! A server that does not answer is no reason to refuse anything.

use super::{Client, ServiceView, Values};
use crate::domain::fields::{self, SERVICE, SERVICE_FIELDS};
use crate::domain::secret::Secret;
use crate::domain::service::{EngineKind, EngineProposal, ServiceSpec};
use crate::domain::typed;
use crate::error::{Error, Result};
use crate::mongo::deployment::{ConfigServers, Deployment, deployment};

impl Client {
    /// Another engine for the service that `values` describe, when its server answers and says that the one that was chosen
    /// does not fit.
    ///
    /// Errors: `Invalid` for values that are wrong, and for a place where PBM cannot be driven from, with the right one.
    pub async fn propose_engine(&self, values: &Values) -> Result<Option<EngineProposal>> {
        self.must_write()?;
        let spec = super::services::new_spec(values)?;
        let Some(uri) = &spec.uri else { return Ok(None) };
        proposal(&spec.name, uri, spec.engine).await
    }

    /// Adds a service, and says which engine would fit it better.
    pub async fn add_service_looking(&self, values: &Values) -> Result<(ServiceView, Option<EngineProposal>)> {
        let proposal = self.propose_engine(values).await?;
        let values = values.clone();
        Ok((self.call(move |client| client.add_service(&values)).await?, proposal))
    }

    /// The same for an edit, where the engine or the connection string changes.
    pub async fn edit_service_looking(
        &self,
        name: &str,
        values: &Values,
    ) -> Result<(ServiceView, Option<EngineProposal>)> {
        self.must_write()?;
        fields::check(&[SERVICE_FIELDS], values, true)?;
        let mut proposed = None;
        let wanted = name.to_owned();
        let before = self.call(move |client| client.store.service_row(&wanted)).await?.engine;
        let mut spec = ServiceSpec { name: name.to_owned(), engine: before, ..ServiceSpec::default() };
        typed::apply(SERVICE, &mut spec, values)?;
        if spec.engine != before || spec.uri.is_some() {
            let wanted = name.to_owned();
            // A lost key is got over by a new connection string; without one nothing is looked at.
            let uri = match spec.uri {
                Some(uri) => Some(uri),
                None => self.call(move |client| client.store.service(&wanted)).await.ok().map(|service| service.uri),
            };
            if let Some(uri) = uri {
                proposed = proposal(name, &uri, spec.engine).await?;
            }
        }
        let (name, values) = (name.to_owned(), values.clone());
        Ok((self.call(move |client| client.edit_service(&name, &values)).await?, proposed))
    }
}

async fn proposal(name: &str, uri: &Secret, engine: EngineKind) -> Result<Option<EngineProposal>> {
    let Some(found) = deployment(name, uri).await else { return Ok(None) };
    match (engine, found) {
        (_, Deployment::Other)
        | (EngineKind::Pbm, Deployment::ConfigServers)
        // What one shard holds can be backed up by itself, and `service check` says what that is worth.
        | (EngineKind::Native, Deployment::Shard { .. })
        // No service is backed up with it; the field refuses the word.
        | (EngineKind::Mongodump, _) => Ok(None),
        (EngineKind::Native, Deployment::ConfigServers) => Ok(Some(EngineProposal {
            found: "leads to the config servers of a sharded cluster".to_owned(),
            engine: EngineKind::Pbm,
            needs_other_uri: false,
            uri: None,
            full: None,
        })),
        (EngineKind::Native, Deployment::Router { config_servers }) => Ok(Some(EngineProposal {
            found: "leads to a mongos of a sharded cluster".to_owned(),
            engine: EngineKind::Pbm,
            needs_other_uri: true,
            uri: config_servers.as_ref().map(ConfigServers::uri),
            full: config_servers.and_then(|servers| servers.uri_like(uri)),
        })),
        (EngineKind::Pbm, Deployment::Router { config_servers }) => {
            Err(not_for_pbm("leads to a mongos", config_servers.as_ref()))
        }
        (EngineKind::Pbm, Deployment::Shard { name, config_servers }) => {
            let what = format!("leads to the shard {}", crate::domain::text::escape(&name));
            Err(not_for_pbm(&what, config_servers.as_ref()))
        }
    }
}

fn not_for_pbm(what: &str, config_servers: Option<&ConfigServers>) -> Error {
    let why = format!("{what} of a sharded cluster, and PBM needs the replica set of its config servers");
    let error = Error::invalid("uri", why);
    match config_servers.map(ConfigServers::uri) {
        Some(uri) => error.hint(format!("the config servers are {uri} (add the credentials)")),
        None => error.hint(
            "give the connection string of the config servers' replica set: on the mongos, db.adminCommand({getShardMap: 1}) \
             has it as map.config",
        ),
    }
}
