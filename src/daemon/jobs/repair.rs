//! Removing from a storage what a check found and a person let go.

use async_trait::async_trait;

use super::storages::open_storage;
use super::{Done, JobRunner, Work};
use crate::control::storage_check::StorePermits;
use crate::domain::storage_check::RepairPlan;
use crate::engine::storage_check::repair::repair;
use crate::error::Result;

/// Carries out the plan that was confirmed. Everything in it is looked at once more, so that it may begin again at any point.
pub struct RepairRunner<'a> {
    pub storage: &'a str,
    pub plan: &'a RepairPlan,
}

#[async_trait]
impl JobRunner for RepairRunner<'_> {
    async fn attempt(&self, work: &Work) -> Result<Done> {
        let Work { env, ctx, .. } = work;
        let (_, storage) = open_storage(env, ctx, self.storage).await?;
        let permits = StorePermits { store: env.store.clone(), storage: self.storage.to_owned() };
        repair(ctx, storage.as_ref(), &env.home_id, self.plan, &permits).await?;
        Ok(None)
    }
}
