//! What retention would delete.

use super::Client;
use crate::domain::retention::RetentionPlan;
use crate::error::Result;

impl Client {
    /// What the retention of a schedule would delete now, and why each other backup stays.
    pub fn retention_plan(&self, name: &str) -> Result<RetentionPlan> {
        self.store.retention_plan(name)
    }
}
