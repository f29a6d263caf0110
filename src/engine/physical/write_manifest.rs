//! From what was copied to the manifest that makes it a backup.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use mongodb::bson::{Bson, Document};

use super::backup::{Copied, Run};
use super::copy::CopiedFile;
use super::local_member::LocalMember;
use super::manifest::{FileEntry, PhysicalManifest};
use crate::artifact::keys::Keys;
use crate::artifact::manifest::Envelope;
use crate::domain::backup::Model;
use crate::domain::service::EngineKind;
use crate::domain::text;
use crate::engine::blocks::naming::Naming;
use crate::engine::blocks::sender::Sender;
use crate::engine::blocks::{self, BLOCK_BYTES};
use crate::engine::stored_check;
use crate::error::{Error, ErrorKind, Result};

impl Run<'_> {
    #[allow(clippy::too_many_arguments, reason = "each is a part of the one value that is put together here")]
    pub(super) fn manifest(
        &self,
        started_at: chrono::DateTime<Utc>,
        local: &LocalMember,
        server_version: String,
        fcv: String,
        config: &Document,
        copied: Copied,
        sender: &Sender,
        naming: Naming,
    ) -> Result<PhysicalManifest> {
        let Copied { method, folders, mut files, top, locked, .. } = copied;
        files.sort_by(|a, b| a.found.path.cmp(&b.found.path));
        let hashes: BTreeSet<[u8; 32]> =
            files.iter().flat_map(|f| f.blocks.iter().flatten()).map(|hash| *hash.as_bytes()).collect();
        let index: BTreeMap<[u8; 32], u32> = hashes.iter().zip(0..).map(|(hash, n)| (*hash, n)).collect();
        let is_new = |hash: &&[u8; 32]| sender.is_new(&(**hash).into());
        let new: Vec<_> =
            hashes.iter().filter(is_new).map(|hash| sender.entry(&(*hash).into())).collect::<Result<_>>()?;
        let blocks: Vec<_> = hashes.iter().map(|hash| sender.entry(&(*hash).into())).collect::<Result<_>>()?;
        let entry = |file: CopiedFile| FileEntry {
            blocks: file.blocks.iter().map(|hash| hash.and_then(|hash| index.get(hash.as_bytes()).copied())).collect(),
            path: file.found.path,
            mode: file.found.mode,
            size: file.found.size,
        };
        let files: Vec<FileEntry> = files.into_iter().map(entry).collect();
        let reader = &local.reader;
        let envelope = Envelope {
            server_version,
            fcv,
            replica_set: reader.set.name.clone(),
            replica_set_id: reader.set.id.clone(),
            member: reader.member.host.clone(),
            consistent_at_ts: top.ts,
            uncompressed_bytes: files.iter().map(|file| file.size).sum(),
            size_bytes: blocks.iter().map(|block| block.size).sum(),
            new_bytes: Some(new.iter().map(|block| block.size).sum()),
            locked_millis: locked.map(|held| u64::try_from(held.as_millis()).unwrap_or(u64::MAX)),
            ..self.order.envelope(EngineKind::Native, Model::Physical, started_at)
        };
        let manifest = PhysicalManifest {
            envelope,
            copy_method: method,
            consistent_at_term: top.term,
            folder_options: local.options.clone(),
            replica_set_config: Bson::Document(config.clone()).into_canonical_extjson(),
            block_bytes: BLOCK_BYTES as u64,
            blocks,
            folders,
            files,
            new_blocks: new.len() as u64,
            block_key: naming.sealed(self.order.encryption.as_ref())?,
        };
        manifest.must_be_possible().map_err(|e| Error::new(ErrorKind::Internal, e.full()))?;
        Ok(manifest)
    }

    pub(super) async fn write_manifest(&self, manifest: &PhysicalManifest) -> Result<()> {
        let meter = &self.ctx.meter;
        meter.set_phase("comparing what was stored");
        blocks::must_be_there(&*self.storage, &self.blocks, &manifest.blocks).await?;
        if self.ctx.limits.read_back && manifest.encryption.is_some() {
            meter
                .warn("encrypted blocks are not read back: whoever makes them cannot open them; their sizes are right");
        } else if self.ctx.limits.read_back {
            meter.set_phase("reading everything back");
            let opening = manifest.opening(Keys::default())?;
            let report = super::verify::read_back(self.ctx, &self.storage, &self.blocks, manifest, &opening).await?;
            if !report.is_good() {
                return Err(stored_check::damaged(&self.storage.place(), &report.problems));
            }
        }
        meter.set_phase("writing the manifest");
        if self.ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        // Says that the attempt lives, for as long as the manifest may take.
        self.claim.renew().await?;
        let key = self.root.manifest()?;
        self.claim.began(&key);
        stored_check::put_checked(&self.storage, key, manifest.to_bytes()?.into()).await?;
        meter.info(format!(
            "consistent at {}: {} files, {}; {} blocks of {}, of which {} ({}) are new",
            manifest.consistent_at_ts,
            text::count(manifest.files.len() as u64),
            text::bytes(manifest.uncompressed_bytes),
            text::count(manifest.blocks.len() as u64),
            text::bytes(manifest.size_bytes),
            text::count(manifest.new_blocks),
            text::bytes(manifest.new_bytes.unwrap_or(0)),
        ));
        Ok(())
    }
}
