//! A cluster as PBM sees it, and what in it keeps a backup from being made: each finding with what to do about it.

use chrono::{DateTime, Utc};

use super::answers::{Node, ReplicaSet, Role, Running, StatusAnswer};
use super::failure::Refusal;
use super::locks::Lock;
use super::redact::Redactor;
use super::version::PbmVersion;
use crate::domain::service::{CheckItem, CheckState};
use crate::domain::text::{count, duration, escape};

/// What is asked for a check: without `backups`, for which PBM opens the storage and fails altogether when it cannot.
pub const QUESTION: &[&str] = &["status", "-s", "cluster", "-s", "running", "-s", "pitr"];
/// The same where PBM says nothing at all, because it cannot name the operation whose lock is there.
pub const WITHOUT_OPERATION: &[&str] = &["status", "-s", "cluster", "-s", "pitr"];

/// Starts an agent, where packages installed it.
pub const START_AGENT: &str = "systemctl enable --now pbm-agent";

/// The replica sets by name, and in each the nodes by address: PBM gives them in any order.
pub fn sorted(status: &StatusAnswer) -> Vec<ReplicaSet> {
    let mut sets = status.cluster.clone().unwrap_or_default();
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    for set in &mut sets {
        set.nodes.sort_by(|a, b| a.host.cmp(&b.host));
    }
    sets
}

/// The names of replica sets whose every agent is missing or lost: nothing that runs on them goes on.
pub fn without_live_agent(status: &StatusAnswer) -> Vec<String> {
    let sets = status.cluster.iter().flatten();
    let dead = sets.filter(|set| !set.nodes.iter().any(|node| node.role != Role::Arbiter && node.has_live_agent()));
    dead.map(|set| set.name.clone()).collect()
}

/// What `pbm status` tells about a cluster, as items of `service check`. `locks`: as far as they can be read; `own`: the version of `pbm` here.
pub fn check(
    service: &str,
    status: &StatusAnswer,
    locks: &[Lock],
    own: PbmVersion,
    redactor: &Redactor,
    now: DateTime<Utc>,
) -> Vec<CheckItem> {
    let sets = sorted(status);
    let mut items = vec![agents(&sets, now), versions(&sets, own)];
    items.extend(arbiters(&sets));
    items.push(storage(status, &sets, redactor));
    items.extend(agent_errors(&sets, redactor));
    items.push(operation(service, status, locks));
    items
}

/// The item for a PBM that refuses to say its status: without a configuration it does.
pub fn check_refused(service: &str, refusal: &Refusal) -> CheckItem {
    let error = refusal.error(service, "status");
    let remedy = error.hint_text().unwrap_or_default().to_owned();
    item("pbm_status", CheckState::Fail, &error.full(), &remedy)
}

fn members(sets: &[ReplicaSet]) -> impl Iterator<Item = (&ReplicaSet, &Node)> {
    let all = sets.iter().flat_map(|set| set.nodes.iter().map(move |node| (set, node)));
    all.filter(|(_, node)| node.role != Role::Arbiter)
}

fn named(set: &ReplicaSet, node: &Node) -> String {
    format!("{} of {}", escape(&node.host), escape(&set.name))
}

fn agents(sets: &[ReplicaSet], now: DateTime<Utc>) -> CheckItem {
    let mut missing = Vec::new();
    for (set, node) in members(sets).filter(|(_, node)| !node.has_live_agent()) {
        let since = node.last_heartbeat().and_then(|moment| moment.utc()).map(|last| {
            let seconds = (now - last).num_seconds().max(0).unsigned_abs();
            format!(" (last alive {} ago)", duration(seconds))
        });
        missing.push(format!("{}{}", named(set, node), since.unwrap_or_default()));
    }
    let all = members(sets).count() as u64;
    if sets.is_empty() {
        return item("pbm_agents", CheckState::Fail, "PBM names no node at all", "start pbm-agent at every node");
    }
    if missing.is_empty() {
        let detail = format!("{} nodes in {} replica sets, each with its agent", count(all), sets.len());
        return item("pbm_agents", CheckState::Pass, &detail, "");
    }
    // A replica set with one agent can be backed up, until that node is down.
    let whole = sets.iter().all(|set| set.nodes.iter().any(|n| n.role != Role::Arbiter && n.has_live_agent()));
    let state = if whole { CheckState::Warn } else { CheckState::Fail };
    let detail = format!("no agent at {}", missing.join(", "));
    item("pbm_agents", state, &detail, START_AGENT)
}

fn versions(sets: &[ReplicaSet], own: PbmVersion) -> CheckItem {
    let mut found: Vec<&str> = members(sets).map(|(_, node)| node.agent.as_str()).filter(|v| !v.is_empty()).collect();
    found.sort_unstable();
    found.dedup();
    let all_own = found.iter().all(|version| PbmVersion::parse(version) == Some(own));
    let shown = found.iter().map(|version| escape(version)).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        [] => item("pbm_versions", CheckState::Skip, "no agent says its version", ""),
        [_] if all_own => item("pbm_versions", CheckState::Pass, &format!("every agent, and pbm here: {own}"), ""),
        [_] => {
            let detail = format!("the agents have {shown}, and pbm here {own}");
            item("pbm_versions", CheckState::Warn, &detail, "install the same version of PBM on this host")
        }
        _ => {
            let detail = format!("the agents have different versions: {shown}");
            item("pbm_versions", CheckState::Fail, &detail, "install the same version of PBM at every node")
        }
    }
}

fn arbiters(sets: &[ReplicaSet]) -> Option<CheckItem> {
    let all = sets.iter().flat_map(|set| set.nodes.iter().map(move |node| (set, node)));
    let found: Vec<String> =
        all.filter(|(_, node)| node.role == Role::Arbiter).map(|(set, node)| named(set, node)).collect();
    if found.is_empty() {
        return None;
    }
    let detail = format!("PBM does not support arbiters: {}; they hold no data and need no agent", found.join(", "));
    let remedy = "replace each arbiter by a member that holds data before a physical backup is restored";
    Some(item("pbm_arbiters", CheckState::Warn, &detail, remedy))
}

/// What PBM puts before an error of the storage.
const OF_STORAGE: &str = "storage:";

/// The first node whose agent does not reach the storage, and what it says.
pub fn storage_error(status: &StatusAnswer) -> Option<(String, String)> {
    let sets = sorted(status);
    let mut errors = members(&sets)
        .filter(|(_, node)| node.has_live_agent())
        .flat_map(|(set, node)| node.errors.iter().map(move |error| (named(set, node), error)));
    let (node, error) = errors.find(|(_, error)| error.starts_with(OF_STORAGE))?;
    Some((node, error.trim_start_matches(OF_STORAGE).trim().to_owned()))
}

fn storage(status: &StatusAnswer, sets: &[ReplicaSet], redactor: &Redactor) -> CheckItem {
    let failing: Vec<(String, &String)> = members(sets)
        .flat_map(|(set, node)| node.errors.iter().map(move |error| (named(set, node), error)))
        .filter(|(_, error)| error.starts_with(OF_STORAGE))
        .collect();
    if let Some((first, error)) = failing.first() {
        let others = match failing.len() - 1 {
            0 => String::new(),
            1 => ", and from 1 other node".to_owned(),
            n => format!(", and from {n} other nodes"),
        };
        let error = redactor.shown(error.trim_start_matches(OF_STORAGE));
        let detail = format!("not reached from {first}{others}: {error}");
        let remedy =
            "make the storage reachable from every node with an agent, a folder at the same path on all of them";
        return item("pbm_storage", CheckState::Fail, &detail, remedy);
    }
    let silent = members(sets).filter(|(_, node)| !node.has_live_agent()).count();
    let place = match &status.backups {
        Some(storage) => format!("{} {}", escape(&storage.kind), redactor.shown(&storage.path)),
        None => "the storage".to_owned(),
    };
    match silent {
        0 => item("pbm_storage", CheckState::Pass, &format!("{place}, seen from every node"), ""),
        n => {
            let detail = format!("{place}, seen from every node with an agent; nodes without one: {n}");
            item("pbm_storage", CheckState::Warn, &detail, "")
        }
    }
}

fn agent_errors(sets: &[ReplicaSet], redactor: &Redactor) -> Option<CheckItem> {
    let mut found = Vec::new();
    for (set, node) in members(sets).filter(|(_, node)| node.has_live_agent()) {
        let others: Vec<&String> = node.errors.iter().filter(|error| !error.starts_with(OF_STORAGE)).collect();
        found.extend(others.iter().map(|error| format!("{}: {}", named(set, node), redactor.shown(error))));
        if !node.ok && node.errors.is_empty() {
            found.push(format!("{} is not ready, and does not say why", named(set, node)));
        }
    }
    let remedy = "the log of pbm-agent on each of them says more";
    (!found.is_empty()).then(|| item("pbm_agent_errors", CheckState::Fail, &found.join("; "), remedy))
}

fn operation(service: &str, status: &StatusAnswer, locks: &[Lock]) -> CheckItem {
    if !locks.is_empty() && locks.iter().all(Lock::is_stale) {
        return left_over(service, locks);
    }
    // Right after its start PBM cannot name an operation, whose lock is there.
    let of_lock = || locks.first().map(|lock| Running { kind: lock.kind.clone(), ..Running::default() });
    match status.running.clone().filter(|running| !running.is_none()).or_else(of_lock) {
        None => item("pbm_operation", CheckState::Pass, "no operation of PBM in the way", ""),
        Some(running) => {
            let words = [&running.kind, &running.name, &running.status].map(|word| escape(word));
            let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
            let since = running.start.as_ref().map(|start| format!(", since {start}")).unwrap_or_default();
            let detail = format!("PBM is at work: {}{since}; what is asked for meanwhile waits", words.join(" "));
            let remedy = format!("wait until it is over, then: mongokeep service check {service}");
            item("pbm_operation", CheckState::Warn, &detail, &remedy)
        }
    }
}

/// Locks that nobody holds any more.
fn left_over(service: &str, locks: &[Lock]) -> CheckItem {
    let named = |lock: &Lock| {
        let (kind, node, set) = (escape(&lock.kind), escape(&lock.node), escape(&lock.set));
        format!("{kind} at {node} of {set}, silent for {}", duration(u64::from(lock.silent_seconds)))
    };
    let named: Vec<String> = locks.iter().map(named).collect();
    let detail = format!(
        "locks are left of an operation that is dead: {}; they keep nothing from being done, and PBM removes them when its next \
         operation begins",
        named.join(", ")
    );
    let remedy = format!("mongokeep backup create --service {service} --storage NAME");
    item("pbm_operation", CheckState::Warn, &detail, &remedy)
}

fn item(id: &str, state: CheckState, detail: &str, remedy: &str) -> CheckItem {
    let title = match id {
        "pbm_status" => "PBM says its status",
        "pbm_agents" => "pbm-agent at every node",
        "pbm_versions" => "One version of PBM",
        "pbm_arbiters" => "No arbiters",
        "pbm_storage" => "Storage of PBM",
        "pbm_agent_errors" => "Agents without errors",
        "pbm_operation" => "No operation in the way",
        other => other,
    };
    CheckItem { id: id.into(), title: title.into(), state, detail: detail.into(), remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::{answer, refusal};

    fn checked(status: &StatusAnswer) -> Vec<CheckItem> {
        let now = DateTime::from_timestamp(1_795_945_528, 0).unwrap();
        check("prod", status, &[], PbmVersion::parse("2.15.0").unwrap(), &Redactor::default(), now)
    }

    fn found<'a>(items: &'a [CheckItem], id: &str) -> &'a CheckItem {
        items.iter().find(|item| item.id == id).unwrap()
    }

    #[test]
    fn a_cluster_that_is_well_passes() {
        let items = checked(&answer("status-fresh"));
        assert!(items.iter().all(|item| item.state == CheckState::Pass), "{items:#?}");
        assert!(found(&items, "pbm_agents").detail.starts_with("3 nodes in 3 replica sets"));
        let names: Vec<String> = sorted(&answer("status-fresh")).into_iter().map(|set| set.name).collect();
        assert_eq!(names, ["cfg", "sh1", "sh2"]);
    }

    #[test]
    fn a_node_without_agent_is_named_with_when_it_was_last_there() {
        let lost = checked(&answer("agentdead-status-40s"));
        let agents = found(&lost, "pbm_agents");
        assert_eq!(agents.state, CheckState::Fail);
        assert_eq!(agents.detail, "no agent at 127.0.0.1:29020 of sh2 (last alive 40 s ago)");
        assert!(agents.remedy.contains("pbm-agent"));
        let gone: StatusAnswer = answer("agentdead-status-2min");
        assert_eq!(found(&checked(&gone), "pbm_agents").detail, "no agent at 127.0.0.1:29020 of sh2");
        assert_eq!(without_live_agent(&gone), ["sh2"]);
        assert_eq!(without_live_agent(&answer("agentback-status")), Vec::<String>::new());
    }

    #[test]
    fn a_storage_that_nodes_do_not_see_says_why() {
        for (name, why) in [("badpath-status-cluster", "not a directory"), ("s3-status", "connection refused")] {
            let items = checked(&answer(name));
            let storage = found(&items, "pbm_storage");
            assert_eq!(storage.state, CheckState::Fail, "{name}");
            assert!(
                storage.detail.contains(why) && storage.detail.contains("from 2 other nodes"),
                "{}",
                storage.detail
            );
            assert!(!items.iter().any(|item| item.id == "pbm_agent_errors"), "told once");
        }
    }

    #[test]
    fn locks_that_nobody_holds_are_named_and_stand_in_no_way() {
        let lock = |silent_seconds| Lock {
            kind: "backup".into(),
            op_id: "6b0b".into(),
            set: "sh1".into(),
            node: "h:\u{1b}1".into(),
            silent_seconds,
        };
        let status: StatusAnswer = answer("status-running");
        let left = operation("prod", &status, &[lock(95), lock(40)]);
        assert_eq!(left.state, CheckState::Warn);
        assert!(left.detail.contains("backup at h:\\u{1b}1 of sh1, silent for 95 s"), "{}", left.detail);
        assert!(left.remedy.contains("backup create --service prod"));
        // One that lives is at work, also while PBM cannot name it.
        let unnamed = operation("prod", &StatusAnswer::default(), &[lock(2)]);
        assert!(unnamed.detail.starts_with("PBM is at work: backup;"), "{}", unnamed.detail);
        assert!(operation("prod", &status, &[lock(95), lock(2)]).detail.contains("PBM is at work"));
    }

    #[test]
    fn versions_arbiters_and_operations_are_told() {
        let mut status: StatusAnswer = answer("status-running");
        let sets = status.cluster.as_mut().unwrap();
        sets[0].nodes[0].agent = "v2.14.0".into();
        let mut arbiter = sets[1].nodes[0].clone();
        (arbiter.role, arbiter.agent, arbiter.host) = (Role::Arbiter, String::new(), "h:1".into());
        sets[1].nodes.push(arbiter);
        let mut odd = sets[1].nodes[0].clone();
        (odd.host, odd.ok, odd.errors) = ("h:2".into(), false, vec!["node: \u{1b}boom".into()]);
        sets[1].nodes.push(odd);
        let items = checked(&status);
        assert!(found(&items, "pbm_versions").detail.ends_with("different versions: v2.14.0, v2.15.0"));
        assert!(found(&items, "pbm_arbiters").detail.contains("h:1 of"));
        assert!(found(&items, "pbm_agent_errors").detail.contains("node: \\u{1b}boom"));
        assert_eq!(found(&items, "pbm_agents").state, CheckState::Pass, "an arbiter needs none");
        let operation = found(&items, "pbm_operation");
        assert_eq!(operation.state, CheckState::Warn);
        assert!(operation.detail.contains("backup 2026-11-29T09:19:46Z oplog backup, since 2026-11-29T09:19:48Z"));
        let refused = check_refused("prod", &Refusal::of(&refusal("noconf-agents-status")));
        assert!(refused.state == CheckState::Fail && refused.remedy.contains("configuration"));
    }
}
