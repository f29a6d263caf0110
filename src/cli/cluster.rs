//! A cluster as the engine of a service sees it, as text.

use super::context::Context;
use super::table::{Column, Table};
use crate::domain::cluster::{Cluster, ClusterNode, ClusterOperation};
use crate::domain::text::{bytes, duration};

pub fn cluster_text(context: &Context, cluster: &Cluster) -> String {
    let mut table = Table::new([
        Column::new("REPLICA SET"),
        Column::new("NODE"),
        Column::new("ROLE"),
        Column::new("AGENT"),
        Column::long("STATE"),
    ]);
    for set in &cluster.sets {
        for node in &set.nodes {
            let agent = node.agent.clone().unwrap_or_else(|| "-".into());
            table.row([set.name.clone(), node.host.clone(), node.role.clone(), agent, state(node)]);
        }
    }
    let mut text = format!("\nCluster\n{}", context.out.table(&table));
    for problem in &cluster.problems {
        text.push_str(&format!("{}\n  {}\n", problem.text, context.out.commands(&problem.remedy)));
    }
    for node in cluster.failing().filter(|node| !node.remedy.is_empty()) {
        text.push_str(&format!("{}: {}\n", node.host, context.out.commands(&node.remedy)));
    }
    if let Some(operation) = &cluster.operation {
        text.push_str(&operation_text(context, operation));
    }
    text
}

fn state(node: &ClusterNode) -> String {
    let since = node.silent_seconds.map(|s| format!(", last alive {} ago", duration(s))).unwrap_or_default();
    let errors = node.errors.iter().map(|error| format!("; {error}")).collect::<String>();
    format!("{}{since}{errors}", node.state.words())
}

fn operation_text(context: &Context, operation: &ClusterOperation) -> String {
    let since = operation.started_at.map(|at| format!(", since {}", context.out.time(at))).unwrap_or_default();
    let head = format!("{} {}", operation.kind, operation.name);
    let mut text = match operation.silent_seconds {
        None => format!("\nRunning: {}: {}{since}\n", head.trim(), operation.status),
        Some(seconds) => {
            format!(
                "\nLeft over: {}: no sign of life for {}; the next operation removes it\n",
                head.trim(),
                duration(seconds)
            )
        }
    };
    let mut table =
        Table::new([Column::new("REPLICA SET"), Column::new("NODE"), Column::new("STATUS"), Column::right("STORED")]);
    for part in &operation.parts {
        let error = part.error.as_ref().map(|error| format!("; {error}")).unwrap_or_default();
        let stored = part.bytes.map_or_else(|| "-".into(), bytes);
        table.row([part.set.clone(), part.node.clone(), format!("{}{error}", part.status), stored]);
    }
    if !table.is_empty() {
        text.push_str(&context.out.table(&table));
    }
    text
}
