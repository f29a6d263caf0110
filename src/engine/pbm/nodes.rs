//! A cluster as PBM sees it, for people who look at it: its nodes, and the operation that runs, node by node.

use chrono::{DateTime, Utc};

use super::answers::{DescribedBackup, DescribedRestore, Node, ReplicaSet, RestoreEntry, Role, Running, StatusAnswer};
use super::cluster::{START_AGENT, sorted};
use super::configured;
use super::console::Console;
use super::failure::Reason;
use super::locks::Lock;
use super::operation::{OperationState, SetState};
use super::program::{ASK_LIMIT, Program, Reply};
use super::redact::Redactor;
use crate::domain::clock;
use crate::domain::cluster::{
    Cluster, ClusterNode, ClusterOperation, ClusterProblem, ClusterSet, NodeState, OperationPart,
};
use crate::domain::service::Service;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::error::Result;

/// Asks PBM for the nodes, and for what they are at.
///
/// Errors: what keeps PBM from answering.
pub async fn cluster(ctx: &Context, service: &Service) -> Result<Cluster> {
    let console = Console::open(ctx, service).await?;
    let program = &console.program;
    let arguments = ["status", "-s", "cluster"];
    let (status, mut problems) = match program.ask(&arguments, ASK_LIMIT, &ctx.cancel).await? {
        Reply::Answer(answer) => (answer.parse::<StatusAnswer>("status")?, Vec::new()),
        Reply::Refused(refusal) if refusal.reason == Reason::Unconfigured => {
            let text = "PBM has no configuration yet, and names no nodes without one".to_owned();
            let remedy = format!("mongokeep service configure {} --storage NAME --yes", service.name);
            (StatusAnswer::default(), vec![ClusterProblem { text, remedy }])
        }
        Reply::Refused(refusal) => return Err(program.refused(&arguments, &refusal)),
    };
    let (operation, configuration) = tokio::join!(operation(ctx, program), configuration(ctx, &console, service));
    problems.extend(configuration);
    let redactor = program.redactor();
    let now = clock::now();
    let of_set = |set: &ReplicaSet| ClusterSet {
        name: escape(&set.name),
        nodes: set.nodes.iter().map(|node| node_of(set, node, redactor, now)).collect(),
    };
    let sets = sorted(&status).iter().map(of_set).collect();
    Ok(Cluster { seen_at: now, sets, operation, problems })
}

/// That somebody else wrote or changed the configuration, which keeps the next backup from being made as it is meant.
async fn configuration(ctx: &Context, console: &Console<'_>, service: &Service) -> Option<ClusterProblem> {
    let present = configured::read(&console.program, &ctx.cancel).await.ok()??;
    let text = console.done_by_others(&present, "the configuration of PBM").await.ok()??;
    let remedy = format!("mongokeep service configure {} --storage NAME", service.name);
    Some(ClusterProblem { text, remedy })
}

fn node_of(set: &ReplicaSet, node: &Node, redactor: &Redactor, now: DateTime<Utc>) -> ClusterNode {
    let state = match (&node.role, node.agent.is_empty()) {
        (Role::Arbiter, _) => NodeState::Arbiter,
        (_, true) => NodeState::Missing,
        _ if !node.has_live_agent() => NodeState::Lost,
        _ if node.ok && node.errors.is_empty() => NodeState::Ready,
        _ => NodeState::Failing,
    };
    let silent = node.last_heartbeat().and_then(|moment| moment.utc());
    let remedy = match state {
        NodeState::Ready | NodeState::Arbiter => String::new(),
        NodeState::Failing => "the log of pbm-agent on this host says more".to_owned(),
        NodeState::Lost | NodeState::Missing => format!("on this host: {START_AGENT}"),
    };
    let errors = match state {
        // Its words are those of the state.
        NodeState::Lost | NodeState::Missing | NodeState::Arbiter => Vec::new(),
        NodeState::Failing if node.errors.is_empty() => {
            vec![format!("the agent of {} does not say why", escape(&set.name))]
        }
        NodeState::Failing | NodeState::Ready => node.errors.iter().map(|error| redactor.shown(error)).collect(),
    };
    ClusterNode {
        host: escape(&node.host),
        role: node.role.in_words(),
        agent: Some(escape(&node.agent)).filter(|version| !version.is_empty()),
        state,
        silent_seconds: silent.map(|last| (now - last).num_seconds().max(0).unsigned_abs()),
        errors,
        remedy,
    }
}

/// The operation that holds PBM's locks. PBM that does not say it is at none that could be shown.
async fn operation(ctx: &Context, program: &Program) -> Option<ClusterOperation> {
    let locks = program.locks(&ctx.cancel).await;
    if locks.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let answer = program.call(&["status", "-s", "running"], ASK_LIMIT, &ctx.cancel).await;
    let running = answer.and_then(|answer| answer.parse::<StatusAnswer>("status")).ok().and_then(|s| s.running);
    let running = running.filter(|running| !running.is_none());
    let running = running.or_else(|| locks.iter().flatten().next().map(of_lock))?;
    let described = described(ctx, program, &running).await;
    Some(operation_of(&running, locks.as_deref().unwrap_or_default(), described))
}

/// Right after its start PBM cannot name an operation, whose lock is there.
fn of_lock(lock: &Lock) -> Running {
    Running { kind: lock.kind.clone(), op_id: lock.op_id.clone(), ..Running::default() }
}

async fn described(ctx: &Context, program: &Program, running: &Running) -> Option<OperationState> {
    let redactor = program.redactor();
    let name = &running.name;
    match running.kind.as_str() {
        "backup" if !name.is_empty() => {
            let answer = program.call(&["describe-backup", name], ASK_LIMIT, &ctx.cancel).await.ok()?;
            Some(OperationState::of_backup(&answer.parse::<DescribedBackup>("backup").ok()?, redactor))
        }
        "restore" => {
            let answer = program.call(&["list", "--restore"], ASK_LIMIT, &ctx.cancel).await.ok()?;
            let restores = answer.parse::<Option<Vec<RestoreEntry>>>("list").ok()?.unwrap_or_default();
            let present = restores.iter().rev().find(|entry| !entry.status.is_final())?;
            let answer = program.call(&["describe-restore", &present.name], ASK_LIMIT, &ctx.cancel).await.ok()?;
            Some(OperationState::of_restore(&answer.parse::<DescribedRestore>("restore").ok()?, redactor))
        }
        _ => None,
    }
}

fn operation_of(running: &Running, locks: &[Lock], described: Option<OperationState>) -> ClusterOperation {
    let own = || locks.iter().filter(|lock| lock.op_id == running.op_id);
    let is_dead = own().count() > 0 && own().all(Lock::is_stale);
    let silent = own().map(|lock| u64::from(lock.silent_seconds)).min();
    let mut parts: Vec<OperationPart> =
        described.iter().flat_map(|state| &state.replica_sets).flat_map(parts_of).collect();
    if parts.is_empty() {
        parts = own().map(part_of_lock).collect();
    }
    parts.sort_by(|a, b| (&a.set, &a.node).cmp(&(&b.set, &b.node)));
    let status = described.as_ref().map_or_else(|| escape(&running.status), |state| state.status.to_string());
    ClusterOperation {
        kind: escape(&running.kind),
        name: escape(&running.name),
        status,
        started_at: running.start.as_ref().and_then(|start| start.utc()),
        silent_seconds: silent.filter(|_| is_dead),
        parts,
    }
}

fn parts_of(set: &SetState) -> Vec<OperationPart> {
    let part = |node: &str, status: &super::answers::Status, error: &Option<String>| OperationPart {
        set: escape(&set.name),
        node: escape(node),
        status: status.to_string(),
        is_over: status.is_final(),
        bytes: set.bytes.filter(|bytes| *bytes > 0),
        error: error.clone(),
    };
    if set.nodes.is_empty() {
        return vec![part("", &set.status, &set.error)];
    }
    // The error of a replica set that one node works on is that of the node.
    let error = |of_node: &Option<String>| of_node.clone().or_else(|| set.error.clone());
    set.nodes.iter().map(|node| part(&node.name, &node.status, &error(&node.error))).collect()
}

fn part_of_lock(lock: &Lock) -> OperationPart {
    OperationPart {
        set: escape(&lock.set),
        node: escape(&lock.node),
        status: if lock.is_stale() { "no sign of life" } else { "at work" }.to_owned(),
        is_over: false,
        bytes: None,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;
    use crate::engine::pbm::tests::answer;

    fn nodes(name: &str) -> Vec<ClusterNode> {
        let now = DateTime::from_timestamp(1_795_945_528, 0).unwrap();
        let redactor = Redactor::new(&Secret::new("mongodb://u:hunter2@h/"));
        let sets = sorted(&answer(name));
        sets.iter().flat_map(|set| set.nodes.iter().map(|node| node_of(set, node, &redactor, now))).collect()
    }

    #[test]
    fn a_node_says_how_it_is_and_what_to_do() {
        let fresh = nodes("status-fresh");
        assert_eq!(fresh.len(), 3);
        assert!(fresh.iter().all(|node| node.state == NodeState::Ready && node.remedy.is_empty()), "{fresh:?}");
        assert_eq!((fresh[0].role.as_str(), fresh[0].agent.as_deref()), ("primary", Some("v2.15.0")));
        let lost = nodes("agentdead-status-40s");
        let node = lost.iter().find(|node| node.host == "127.0.0.1:29020").unwrap();
        assert_eq!((node.state, node.silent_seconds), (NodeState::Lost, Some(40)));
        assert!(node.remedy.contains("pbm-agent") && node.errors.is_empty());
        let gone = nodes("agentdead-status-2min");
        let node = gone.iter().find(|node| node.host == "127.0.0.1:29020").unwrap();
        assert_eq!((node.state, node.agent.as_deref(), node.silent_seconds), (NodeState::Missing, None, None));
        let failing = nodes("badpath-status-cluster");
        let node = &failing[0];
        assert_eq!(node.state, NodeState::Failing);
        assert!(node.errors[0].contains("not a directory"), "{:?}", node.errors);
    }

    #[test]
    fn what_is_said_of_a_node_is_escaped_and_without_secrets() {
        let mut status: StatusAnswer = answer("status-fresh");
        let set = &mut status.cluster.as_mut().unwrap()[0];
        set.nodes[0].host = "h\u{1b}[2J".into();
        (set.nodes[0].ok, set.nodes[0].errors) = (false, vec!["node: hunter2 \u{7}".into()]);
        let redactor = Redactor::new(&Secret::new("mongodb://u:hunter2@h/"));
        let node = node_of(set, &set.nodes[0], &redactor, Utc::now());
        let shown = format!("{node:?}");
        assert!(!shown.contains("hunter2") && !shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown}");
    }

    #[test]
    fn an_operation_is_told_node_by_node_and_dead_when_its_locks_are_stale() {
        let running = answer::<StatusAnswer>("status-running").running.unwrap();
        let described = OperationState::of_backup(&answer("describe-backup-done"), &Redactor::default());
        let lock = |set: &str, silent_seconds| Lock {
            kind: "backup".into(),
            op_id: running.op_id.clone(),
            set: set.into(),
            node: "h:1".into(),
            silent_seconds,
        };
        let alive = operation_of(&running, &[lock("sh1", 3), lock("sh2", 90)], Some(described));
        assert_eq!((alive.kind.as_str(), alive.silent_seconds), ("backup", None));
        let sets: Vec<&str> = alive.parts.iter().map(|part| part.set.as_str()).collect();
        assert_eq!(sets, ["cfg", "sh1", "sh2"]);
        assert!(alive.parts.iter().all(|part| part.is_over && part.node.starts_with("127.0.0.1:")), "{alive:?}");
        let dead = operation_of(&running, &[lock("sh2", 90), lock("sh1", 70)], None);
        assert_eq!(dead.silent_seconds, Some(70));
        assert_eq!((dead.parts[0].set.as_str(), dead.parts[0].status.as_str()), ("sh1", "no sign of life"));
        // Without a look at the locks nothing is called dead.
        assert_eq!(operation_of(&running, &[], None).silent_seconds, None);
    }
}
