//! The types of PBM's answers.
//!
//! They take fields that are not known, arrays that are `null` and most fields that are missing. A word that is not known (a
//! status, a role) is kept as the text it is: it is shown, and never counts as another one.

pub mod describe;
pub mod lenient;
pub mod list;
pub mod logs;
pub mod plan;
pub mod started;
pub mod status;
pub mod words;

pub use describe::{DescribedBackup, DescribedNode, DescribedRestore, DescribedSet};
pub use lenient::Moment;
pub use list::{ListAnswer, RestoreEntry};
pub use logs::LogEntry;
pub use plan::DeletePlan;
pub use started::{ConfigValue, StartedBackup, StartedRestore};
pub use status::{ChunkRange, Node, PitrState, ReplicaSet, Running, Snapshot, StatusAnswer, StorageState};
pub use words::{Role, Status};
