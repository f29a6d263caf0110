//! A restore that PBM does: planned with what stands against it, asked for, and followed until PBM itself says that it is done.
//!
//! PBM accepts a restore that cannot work, and reports success for one that is half done. So what it needs is looked at
//! before, and only `done` is taken for done.

use mongodb::bson::doc;

use super::answers::{DescribedBackup, StartedRestore, StatusAnswer};
use super::backup::selected;
use super::cluster::sorted;
use super::configuration::{Configuration, Wishes};
use super::configured::PrivateFile;
use super::console::Console;
use super::driven::DrivenManifest;
use super::follow::RestoreKind;
use super::program::{ASK_LIMIT, START_LIMIT};
use super::watch::OnMeter;
use super::{held, recording};
use crate::domain::backup::Model;
use crate::domain::namespace::{Namespace, Rename, Selection};
use crate::domain::restore::{
    CollectionKind, LeftOut, PlannedAction, PlannedFiles, PlannedNamespace, ReplicaSetMap, RestorePlan, RestoreRequest,
};
use crate::domain::service::Service;
use crate::domain::text::{counted, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::blocking::blocking;
use crate::engine::contract::{BeforeWriting, Confirmed, RestoreReport, RestoreSource};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::connect::CHECK_TIMEOUT;
use crate::mongo::{Server, namespaces};
use pointed::{configured, folder_of, pointed_at};

/// Says what PBM would do, and what keeps it from doing it. Writes nothing.
///
/// Errors: as [`crate::engine::contract::Engine::plan_restore`].
pub async fn plan(
    ctx: &Context,
    source: &RestoreSource,
    service: &Service,
    request: &RestoreRequest,
) -> Result<RestorePlan> {
    let manifest = held::as_driven(&source.manifest)?;
    let model = manifest.envelope.model;
    must_be_possible(&manifest, request)?;
    let console = Console::open(ctx, service).await?;
    let status = console.status(&["cluster", "pitr"]).await?;
    must_fit(&manifest, request, &status, &console, service)?;
    must_reach(&console, &status, source, service).await?;
    let records = status.pitr.as_ref().is_some_and(|pitr| pitr.conf);
    let is_sharded = is_sharded(&manifest);
    if let Some(Rename::Collection { to, .. }) = request.rename.first() {
        must_be_absent(ctx, service, to).await?;
    }
    let (namespaces, left_out) = planned(&manifest, request)?;
    let mut warnings: Vec<String> = request
        .replset_map
        .iter()
        .map(|map| format!("replica set {} of the backup goes into {}", escape(&map.from), escape(&map.to)))
        .collect();
    if is_sharded {
        warnings.push(
            "before it is confirmed: stop the balancer (sh.stopBalancer()) and every mongos; after it: start them again, and \
             the balancer (sh.startBalancer())"
                .to_owned(),
        );
    }
    if records {
        warnings.push(
            "PBM stops recording the oplog for the restore; point-in-time recovery begins again with the next base, which a \
             point-in-time schedule that is on makes at once"
                .to_owned(),
        );
    }
    if pointed_at(ctx, &console, source, service, &manifest).await? {
        warnings.push("PBM is pointed at the storage of this backup first".to_owned());
    }
    Ok(RestorePlan {
        backup: manifest.name.clone(),
        from_service: manifest.service.clone(),
        to_service: service.name.clone(),
        point_in_time: None,
        consistent_at_ts: Some(source.until()),
        target_version: manifest.server_version.clone(),
        target_fcv: manifest.fcv.clone(),
        namespaces,
        dropped: Vec::new(),
        untouched: Vec::new(),
        left_out,
        // A whole restore brings them, a part of one when that is asked for.
        users_and_roles: request.users_and_roles || request.include.is_empty(),
        users_of: Vec::new(),
        safety_backup: None,
        files: (model == Model::Physical).then(|| every_node(&manifest, &status)),
        warnings,
    })
}

/// Carries out a plan.
///
/// Errors: as [`crate::engine::contract::Engine::restore`].
pub async fn restore(
    ctx: &Context,
    source: &RestoreSource,
    service: &Service,
    confirmed: Confirmed<'_>,
    writes: &(dyn BeforeWriting + '_),
) -> Result<RestoreReport> {
    let manifest = held::as_driven(&source.manifest)?;
    ctx.meter.set_phase("asking PBM");
    let nothing = |e: Error| if e.hint_text().is_none() { e.hint("nothing was written to the target") } else { e };
    let ready = async {
        let console = Console::open(ctx, service).await?;
        let status = console.status(&["cluster"]).await?;
        must_fit(&manifest, confirmed.request, &status, &console, service)?;
        let configuration = configured(ctx, &console, source, &manifest).await?;
        console.wait_until_free().await?;
        console.wait_until_stopped().await?;
        // What PBM held when it stopped recording is stored by now, and nothing was deleted since the plan was made.
        must_reach(&console, &status, source, service).await?;
        let described = console.program.call(&["describe-backup", manifest.pbm_name()], ASK_LIMIT, &ctx.cancel).await?;
        let described: DescribedBackup = described.parse("backup")?;
        if !described.status.is_good() {
            let what = format!("PBM says of its backup {} that it is {}", escape(&described.name), described.status);
            return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup"));
        }
        Ok((console, configuration))
    };
    let (console, configuration) = ready.await.map_err(nothing)?;
    let arguments = arguments(&manifest, confirmed.request, source.until())?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    writes.before_writing().await?;
    ctx.meter.set_phase("PBM begins");
    let never = tokio_util::sync::CancellationToken::new();
    let started: StartedRestore = console.program.call(&arguments, START_LIMIT, &never).await?.parse("restore")?;
    ctx.meter.info(format!("PBM calls this restore {}", escape(&started.name)));
    if let Err(e) = writes.began(&started.name).await {
        ctx.meter.warn(format!("it could not be noted which restore PBM is at: {e}"));
    }
    end_of(ctx, &console, &started.name, &configuration, &manifest, confirmed.plan).await
}

/// Follows the restore `began` of PBM, whose daemon is gone, to its end.
///
/// Errors: as [`restore`].
pub async fn follow(
    ctx: &Context,
    source: &RestoreSource,
    service: &Service,
    plan: &RestorePlan,
    began: &str,
) -> Result<RestoreReport> {
    let manifest = held::as_driven(&source.manifest)?;
    ctx.meter.info(format!("PBM was at its restore {}: it is followed to its end", escape(began)));
    let console = Console::open(ctx, service).await?;
    // A physical one is followed without a server: nothing is asked of PBM's own configuration.
    let configuration = folder_of(&manifest, service)
        .and_then(|folder| Configuration::new(&source.location, folder, &Wishes::default()))?;
    end_of(ctx, &console, began, &configuration, &manifest, plan).await
}

/// Waits for the end of the restore `name`.
async fn end_of(
    ctx: &Context,
    console: &Console<'_>,
    name: &str,
    configuration: &Configuration,
    manifest: &DrivenManifest,
    plan: &RestorePlan,
) -> Result<RestoreReport> {
    let is_physical = manifest.envelope.model == Model::Physical;
    let text = configuration.exposed()?;
    let file = match is_physical {
        true => Some(blocking("writing a configuration of PBM", move || PrivateFile::new(text.expose())).await?),
        false => None,
    };
    let kind = match &file {
        Some(file) => RestoreKind::Physical { configuration: &file.path },
        None => RestoreKind::Logical,
    };
    let mut watcher = OnMeter::new(&ctx.meter);
    let mut follow = console.follow(&mut watcher);
    let followed = follow.restore(name, kind).await;
    if let Some(file) = file {
        blocking("removing a configuration of PBM", move || file.remove()).await?;
    }
    let described = followed.map_err(|e| {
        let hint =
            format!("the target holds what PBM restored until then; pbm describe-restore {} says more", escape(name));
        if e.hint_text().is_none() { e.hint(hint) } else { e }
    })?;
    let mut left_out = Vec::new();
    for set in described.replsets.iter().filter(|set| !set.partial_txn.is_empty()) {
        left_out.push(LeftOut {
            what: format!("{} of {}", counted(set.partial_txn.len() as u64, "transaction"), escape(&set.name)),
            why: "PBM restored them in part: their other part is behind the moment of the backup".to_owned(),
        });
    }
    let restored = plan.namespaces.len() as u64;
    ctx.meter.info(match is_physical {
        true => {
            "PBM restored the files of every node; no server runs now. The plan says what a person starts".to_owned()
        }
        false => format!("PBM restored {}, and says that all of it is done", counted(restored, "namespace")),
    });
    Ok(RestoreReport { namespaces: restored, documents: 0, operations: 0, left_out })
}

/// Errors: what PBM cannot do, naming the option.
fn must_be_possible(manifest: &DrivenManifest, request: &RestoreRequest) -> Result<()> {
    let name = escape(&manifest.name);
    for (given, field) in [
        (request.exact, "exact"),
        (request.no_ttl, "no-ttl"),
        (request.no_check, "no-check"),
        (request.mongod.is_some(), "mongod"),
    ] {
        if given {
            return Err(Error::invalid(field, format!("cannot be told to PBM, which made the backup {name}")));
        }
    }
    if request.point_in_time.is_some() {
        if !request.rename.is_empty() {
            return Err(Error::invalid("rename", "with PBM it goes with a backup, not with --time"));
        }
        if !request.include.is_empty() && is_sharded(manifest) {
            let why = "PBM restores a part of a sharded cluster to the moment of a backup only, not with --time";
            return Err(Error::invalid("include", why)
                .hint("restore everything to that moment, or the part from a backup: mongokeep restore BACKUP"));
        }
    }
    if !request.rename.is_empty() && is_sharded(manifest) {
        return Err(Error::invalid("rename", "PBM restores under another name only where there are no shards"));
    }
    if manifest.envelope.model == Model::Physical && !request.include.is_empty() {
        return Err(Error::invalid("include", "a physical backup is restored as a whole"));
    }
    if request.users_and_roles
        && request.include.iter().any(|p| p.to_string().split_once('.').is_some_and(|(_, c)| c != "*"))
    {
        return Err(Error::invalid("users-and-roles", "with PBM it needs whole databases: --include DATABASE"));
    }
    arguments(manifest, request, manifest.envelope.consistent_at_ts).map(drop)
}

/// Errors: `NotFound` when what PBM recorded does not lead to the moment.
async fn must_reach(
    console: &Console<'_>,
    status: &StatusAnswer,
    source: &RestoreSource,
    service: &Service,
) -> Result<()> {
    let (base, until) = (source.manifest.envelope.consistent_at_ts, source.until());
    if until <= base {
        return Ok(());
    }
    recording::must_reach(&service.name, &recording::recorded(console, status).await?, base, until)
}

fn is_sharded(manifest: &DrivenManifest) -> bool {
    manifest.replica_sets.len() > 1 || manifest.replica_sets.iter().any(|set| set.is_config_server)
}

/// PBM restores under another name only into what is not there.
///
/// Errors: `Conflict` when it is.
async fn must_be_absent(ctx: &Context, service: &Service, to: &Namespace) -> Result<()> {
    let server = Server::connect(&service.name, &service.uri, CHECK_TIMEOUT).await?;
    let found = namespaces::list_database(&server, &ctx.cancel, &to.db, doc! {"name": &to.collection}).await?;
    if found.entries.is_empty() {
        return Ok(());
    }
    let what = format!(
        "service {} has a collection {} already, and PBM replaces none under another name",
        service.name,
        escape(&to.to_string())
    );
    Err(Error::new(ErrorKind::Conflict, what).hint("choose a name that is free"))
}

/// Errors: the target lacks a replica set of the backup, or one has no agent.
fn must_fit(
    manifest: &DrivenManifest,
    request: &RestoreRequest,
    status: &StatusAnswer,
    console: &Console<'_>,
    service: &Service,
) -> Result<()> {
    let sets = sorted(status);
    let there: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    let held: Vec<&str> = manifest.replica_sets.iter().map(|set| set.name.as_str()).collect();
    let targets = mapped(&held, &there, &request.replset_map)?;
    let missing: Vec<String> = targets.iter().filter(|set| !there.contains(*set)).map(|set| escape(set)).collect();
    if !missing.is_empty() {
        let what = format!(
            "service {} has no replica sets {}, which the backup {} holds",
            service.name,
            missing.join(", "),
            escape(&manifest.name)
        );
        return Err(Error::new(ErrorKind::Unsupported, what)
            .hint("PBM restores into a cluster with replica sets of the same names; others are named by --replset-map FROM=TO"));
    }
    console.must_have_agents(status)
}

/// Into which replica sets those of a backup (`held`) go, in a cluster with the replica sets `there`.
///
/// Errors: `Invalid` for a name that there is not, and for two that go into one.
fn mapped<'a>(held: &[&'a str], there: &[&str], maps: &'a [ReplicaSetMap]) -> Result<Vec<&'a str>> {
    let known = |names: &[&str]| names.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ");
    for (i, map) in maps.iter().enumerate() {
        let (from, to) = (escape(&map.from), escape(&map.to));
        let why = if !held.contains(&map.from.as_str()) {
            format!("the backup holds no replica set {from}, but {}", known(held))
        } else if !there.contains(&map.to.as_str()) {
            format!("the target has no replica set {to}, but {}", known(there))
        } else if maps[..i].iter().any(|other| other.from == map.from) {
            format!("{from} is mapped twice")
        } else {
            continue;
        };
        return Err(Error::invalid("replset-map", why));
    }
    let target = |name: &'a str| maps.iter().find(|map| map.from == name).map_or(name, |map| map.to.as_str());
    let targets: Vec<&str> = held.iter().map(|name| target(name)).collect();
    let twice = targets.iter().enumerate().find(|(i, name)| targets[..*i].contains(*name));
    match twice.filter(|_| !maps.is_empty()) {
        Some((_, name)) => {
            Err(Error::invalid("replset-map", format!("two replica sets of the backup would go into {}", escape(name))))
        }
        None => Ok(targets),
    }
}

/// What is restored, and what is left.
fn planned(manifest: &DrivenManifest, request: &RestoreRequest) -> Result<(Vec<PlannedNamespace>, Vec<LeftOut>)> {
    let (mut planned, mut left_out) = (std::collections::BTreeMap::new(), Vec::new());
    let all = manifest.replica_sets.iter().filter(|set| !set.is_config_server).flat_map(|set| &set.collections);
    for name in all {
        let Some(from) = Namespace::parse(name) else { continue };
        let is_own = matches!(from.db.as_str(), "admin" | "config" | "local");
        if request.include.is_empty() || request.include.iter().any(|pattern| pattern.matches(&from)) {
            let to = match request.rename.first() {
                Some(Rename::Collection { from: old, to }) if *old == from => to.clone(),
                _ => from.clone(),
            };
            let entry = PlannedNamespace {
                from: from.clone(),
                to,
                kind: CollectionKind::Collection,
                // PBM drops what is there without a look at it.
                action: PlannedAction::Replace,
                documents: None,
                uncounted: true,
                replaces_documents: None,
            };
            if !is_own {
                planned.insert(from, entry);
            }
        } else if !is_own {
            left_out.push(LeftOut::not_included(escape(name)));
        }
    }
    if planned.is_empty() && !request.include.is_empty() {
        let what = format!("backup {} holds nothing that --include names", escape(&manifest.name));
        return Err(
            Error::new(ErrorKind::NotFound, what).hint(format!("mongokeep backup show {}", escape(&manifest.name)))
        );
    }
    left_out.dedup();
    Ok((planned.into_values().collect(), left_out))
}

/// `until`: the position that is restored, every change up to and including it.
fn arguments(manifest: &DrivenManifest, request: &RestoreRequest, until: Timestamp) -> Result<Vec<String>> {
    let name = manifest.pbm_name().to_owned();
    let mut words = vec!["restore".to_owned()];
    // PBM refuses the moment of the backup itself as a time.
    match until > manifest.envelope.consistent_at_ts {
        true => words.extend(["--time".to_owned(), until.to_string(), "--base-snapshot".to_owned(), name]),
        false => words.push(name),
    }
    words.push("--yes".to_owned());
    if !request.replset_map.is_empty() {
        // PBM writes the target first.
        let maps: Vec<String> = request.replset_map.iter().map(|map| format!("{}={}", map.to, map.from)).collect();
        words.extend(["--replset-remapping".to_owned(), maps.join(",")]);
    }
    let selected = selected(&Selection { include: request.include.clone(), exclude: Vec::new() })?;
    match request.rename.as_slice() {
        [] => {}
        [Rename::Collection { from, to }] if selected.is_empty() => {
            words.extend(["--ns-from".to_owned(), from.to_string(), "--ns-to".to_owned(), to.to_string()]);
            return Ok(words);
        }
        _ => {
            let why =
                "PBM restores one collection under another name, and nothing else with it: --rename db.a=db.b alone";
            return Err(Error::invalid("rename", why));
        }
    }
    if !selected.is_empty() {
        words.extend(["--ns".to_owned(), selected.join(",")]);
        if request.users_and_roles {
            words.push("--with-users-and-roles".to_owned());
        }
    }
    Ok(words)
}

/// A physical restore: PBM does it at every node, and a person starts the servers.
fn every_node(manifest: &DrivenManifest, status: &StatusAnswer) -> PlannedFiles {
    let nodes: Vec<String> = sorted(status).iter().flat_map(|set| &set.nodes).map(|node| escape(&node.host)).collect();
    PlannedFiles {
        dir: "the data folder of every node".to_owned(),
        replaces: Some("nothing: PBM removes what is there".to_owned()),
        only_by_hand: None,
        mongod: String::new(),
        mongod_version: manifest.server_version.clone(),
        replica_set: manifest.replica_set.clone(),
        members: nodes,
        files: 0,
        bytes: manifest.uncompressed_bytes,
        free_bytes: 0,
        steps: vec![
            "PBM stops mongod at every node".to_owned(),
            "PBM removes the data of every node, and copies that of the backup".to_owned(),
            "PBM recovers it, and leaves mongod stopped".to_owned(),
        ],
        by_hand: vec![
            "before it is confirmed: stop every mongos, and arbiters".to_owned(),
            "afterwards: start mongod and pbm-agent at every node, then every mongos".to_owned(),
            "then: pbm config --force-resync, and a new full backup".to_owned(),
        ],
    }
}

mod pointed;

#[cfg(test)]
mod tests;
