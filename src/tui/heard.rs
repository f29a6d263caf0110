//! What was heard of a service: whether it can be reached.

use chrono::{DateTime, Utc};

use super::msg::Problem;

/// A service that cannot be reached.
#[derive(Debug, Clone, PartialEq)]
pub struct LostService {
    pub since: DateTime<Utc>,
    pub problem: Problem,
}

/// What is known of a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reach {
    /// It has answered in this session.
    pub(super) answered: bool,
    pub(super) lost: Option<LostService>,
}
