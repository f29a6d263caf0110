//! From a manifest to the catalogue.

use crate::artifact::manifest::Envelope;
use crate::domain::service::EngineKind;
use crate::store::CatalogueEntry;

/// What the catalogue keeps of a manifest.
pub fn catalogue_entry(manifest: &Envelope) -> CatalogueEntry {
    CatalogueEntry {
        name: manifest.name.clone(),
        service: manifest.service.clone(),
        cluster: manifest.cluster.clone(),
        folder: manifest.folder.clone(),
        schedule: manifest.schedule.clone(),
        engine: manifest.engine,
        model: manifest.model,
        backup_type: manifest.backup_type,
        compression: manifest.compression,
        consistent_at_ts: manifest.consistent_at_ts,
        size_bytes: manifest.size_bytes,
        uncompressed_bytes: manifest.uncompressed_bytes,
        documents: (manifest.model.counts_documents() && manifest.engine.counts_documents())
            .then_some(manifest.documents),
        new_bytes: manifest.new_bytes,
        locked_millis: manifest.locked_millis,
        pbm_name: manifest.pbm_name.clone(),
        chain: manifest.chain.clone(),
        recipients: manifest.encryption.as_ref().map(|encryption| encryption.recipients.clone()),
        started_at: manifest.started_at,
        finished_at: manifest.finished_at,
        server_version: manifest.server_version.clone(),
        fcv: manifest.fcv.clone(),
        replica_set_id: manifest.replica_set_id.clone(),
        whole: match (manifest.engine, manifest.selection.is_everything()) {
            // Without an oplog it does not say whether a database or a collection was left out.
            (EngineKind::Mongodump, false) => None,
            (_, everything) => Some(everything),
        },
    }
}
