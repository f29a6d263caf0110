//! Engines that record the oplog by themselves: mongokeep switches them on and off, and asks what they have.

use std::time::Duration;

use async_trait::async_trait;

use super::context::Context;
use crate::domain::pitr::EngineRecord;
use crate::domain::service::Service;
use crate::domain::storage::StorageConfig;
use crate::error::{Error, Result};

/// Where an engine is to record, and how often it is to store what it has.
#[derive(Debug, Clone, Copy)]
pub struct RecordingOrder<'a> {
    pub service: &'a Service,
    pub location: &'a StorageConfig,
    pub folder: &'a str,
    pub slice_length: Duration,
}

/// How the recording of a service does.
#[derive(Debug)]
pub struct RecordingState {
    pub running: bool,
    /// It does not run yet, and nothing keeps it from beginning by itself.
    pub begins: bool,
    /// Why it does not run, or not everywhere.
    pub error: Option<Error>,
    /// Nothing more is recorded before there is a new base.
    pub needs_base: bool,
    pub record: EngineRecord,
}

/// Records the oplog of services.
#[async_trait]
pub trait OwnRecording: Send + Sync {
    /// Sees to it that it is switched on, as it was ordered. Says nothing about whether it runs.
    ///
    /// Errors: `Conflict`, naming it, for what somebody else changed, which is left as it is.
    async fn switch_on(&self, ctx: &Context, order: &RecordingOrder<'_>) -> Result<()>;

    /// Switches it off, if it is on. Returns whether it was.
    ///
    /// Errors: as `switch_on`.
    async fn switch_off(&self, ctx: &Context, service: &Service) -> Result<bool>;

    /// How it does, and what it has. Changes nothing.
    async fn look(&self, ctx: &Context, service: &Service) -> Result<RecordingState>;

    /// Deletes what is older than the oldest base that is there, after its plan was read and logged.
    ///
    /// Errors: `Conflict` and `Unsupported` when that cannot be done safely, with the reason; then nothing is deleted.
    async fn delete_useless(&self, ctx: &Context, order: &RecordingOrder<'_>) -> Result<()>;
}
