//! A cluster as the engine of a service sees it: its nodes, and what is being done on them. Every text in it is fit to be shown.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// A look at a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub seen_at: DateTime<Utc>,
    /// By name.
    pub sets: Vec<ClusterSet>,
    pub operation: Option<ClusterOperation>,
    /// What is wrong with the whole, such as a missing configuration.
    pub problems: Vec<ClusterProblem>,
}

impl Cluster {
    /// Nodes that a person has to do something about.
    pub fn failing(&self) -> impl Iterator<Item = &ClusterNode> {
        self.sets.iter().flat_map(|set| &set.nodes).filter(|node| node.state.needs_somebody())
    }

    /// Whether something is being done on it now.
    pub fn is_working(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.silent_seconds.is_none())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterProblem {
    pub text: String,
    /// What to do about it; empty: nothing can be said.
    pub remedy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterSet {
    pub name: String,
    /// By address.
    pub nodes: Vec<ClusterNode>,
}

/// A member of a replica set, and the agent at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterNode {
    /// `host:port`.
    pub host: String,
    /// `primary`, `secondary`, `hidden`, ...
    pub role: String,
    /// The version of its agent.
    pub agent: Option<String>,
    pub state: NodeState,
    /// Seconds since the last sign of life of an agent that is lost.
    pub silent_seconds: Option<u64>,
    /// What its agent says is wrong.
    pub errors: Vec<String>,
    /// What to do about it; empty: nothing.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its agent is at work.
    Ready,
    /// It is there, and says that something is wrong.
    Failing,
    /// An agent was there, and gives no sign of life.
    Lost,
    /// There is no agent.
    Missing,
    /// It holds no data, and needs no agent.
    Arbiter,
}

impl NodeState {
    pub fn needs_somebody(self) -> bool {
        match self {
            Self::Failing | Self::Lost | Self::Missing => true,
            Self::Ready | Self::Arbiter => false,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failing => "not ready",
            Self::Lost => "agent lost",
            Self::Missing => "no agent",
            Self::Arbiter => "needs no agent",
        }
    }
}

/// What is being done on a cluster, or was when it died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterOperation {
    /// `backup`, `restore`, ...
    pub kind: String,
    /// Of a backup its name, of a restore that of the backup; empty where it has none.
    pub name: String,
    pub status: String,
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds since its last sign of life, of one that is dead.
    pub silent_seconds: Option<u64>,
    /// What each node is at.
    pub parts: Vec<OperationPart>,
}

/// The share of one replica set, or of one node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationPart {
    pub set: String,
    /// Empty: nobody says who does it.
    pub node: String,
    pub status: String,
    /// It has ended, well or not.
    pub is_over: bool,
    pub bytes: Option<u64>,
    pub error: Option<String>,
}
