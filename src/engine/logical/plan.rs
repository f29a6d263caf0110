//! What a restore would do, computed against backup and target as they are. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;

use super::compatibility::{Target, release};
use super::manifest::LogicalManifest;
use super::open_backup::{OpenBackup, Survey, is_restorable};
use super::read_by_name::missed;
use super::staging;
use super::user_collections::{ROLES, USERS};
use crate::domain::namespace::{Namespace, Rename, contradicting, renamed};
use crate::domain::restore::{CollectionKind, LeftOut, PlannedAction, PlannedNamespace, RestorePlan, RestoreRequest};
use crate::domain::text::{counted, escape, escape_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::namespaces::{self, NOT_UTF8, Unnamed};
use crate::mongo::oplog::catalogue::{self, BUCKETS_PREFIX, Collection, View, is_ttl};
use crate::mongo::oplog::entry::Uuid;
use crate::mongo::oplog::modifiers::UpdateForms;
use crate::mongo::{Server, check, sharding, topology};

/// A plan with what it takes to carry it out.
pub(super) struct Draft {
    pub plan: RestorePlan,
    pub survey: Survey,
    pub items: Vec<Item>,
    /// The forms of updates the target takes.
    pub takes: UpdateForms,
}

/// One thing to create in the target.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub to: Namespace,
    pub what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Collection { uuid: Uuid, collection: Box<Collection> },
    View(View),
}

impl Item {
    pub fn kind(&self) -> CollectionKind {
        match &self.what {
            What::View(_) => CollectionKind::View,
            What::Collection { collection, .. } if collection.timeseries => CollectionKind::Timeseries,
            What::Collection { .. } => CollectionKind::Collection,
        }
    }

    /// Where the documents go.
    pub fn storage_namespace(&self) -> Namespace {
        match self.kind() {
            CollectionKind::Timeseries => {
                Namespace::new(&self.to.db, format!("{BUCKETS_PREFIX}{}", self.to.collection))
            }
            _ => self.to.clone(),
        }
    }
}

/// Looks at a backup (with the slices that follow it, if any) and at the target, and says what restoring would do.
///
/// Errors: `Unsupported` for a format, server version or feature compatibility version the target cannot take,
/// `NotFound` and `Invalid` for a selection or rename that makes no sense, `Corrupt` for a damaged backup.
pub async fn plan(
    cancel: &CancellationToken,
    stored: &OpenBackup,
    target: &Server,
    request: &RestoreRequest,
) -> Result<RestorePlan> {
    Ok(draft(cancel, stored, target, request).await?.plan)
}

/// The plan for the state after the position [`OpenBackup::until`].
pub(super) async fn draft(
    cancel: &CancellationToken,
    stored: &OpenBackup,
    target: &Server,
    request: &RestoreRequest,
) -> Result<Draft> {
    let (manifest, until) = (&stored.manifest, stored.until());
    if !stored.is_logical() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} is not a logical backup that can be read here", escape(&manifest.name)),
        ));
    }
    stored.check_manifest()?;
    let mut warnings = stored.foreign.as_ref().map(|foreign| foreign.warnings.clone()).unwrap_or_default();
    if target.hello().is_mongos {
        return Err(Error::new(ErrorKind::Unsupported, format!("service {} is a sharded cluster", target.service()))
            .hint(sharding::INTO_A_CLUSTER));
    }
    sharding::require_no_part(target, cancel).await?;
    let facts = topology::facts(target, cancel).await?;
    compatible(manifest, &facts, target.service(), &mut warnings)?;
    recorded_on(stored, cancel, &facts, target.service()).await?;
    let survey = stored.survey(cancel, until).await?;
    warnings.extend(survey.renamed.iter().map(|(name, ts)| missed(name, *ts)));
    let mut left_out = manifest.left_out.clone();
    let mut items = items(&survey, request, &mut left_out)?;
    check_selection(&manifest.name, &survey, request)?;
    check_collisions(&items)?;
    for unnamed in survey.catalogue.unnamed() {
        let left = LeftOut { what: escape_bytes(unnamed), why: NOT_UTF8.into() };
        if !left_out.contains(&left) && manifest.selection.selects(&catalogue::like(unnamed)) {
            left_out.push(left);
        }
    }
    for left in left_out.iter().filter(|left| left.why == NOT_UTF8) {
        warnings.push(format!("{} is not restored: {}", left.what, left.why));
    }
    fit(&facts, &mut items, &mut left_out, &mut warnings)?;

    check_case(&items, &databases(cancel, target, &mut warnings).await?)?;

    let changed = items.iter().filter_map(|(item, _)| match &item.what {
        What::Collection { uuid, .. } if survey.changed.contains(uuid) => Some(item.storage_namespace()),
        _ => None,
    });
    check::may_replay(target, cancel, &changed.collect::<Vec<_>>()).await?;

    let mut existing = BTreeMap::new();
    for db in items.iter().map(|(item, _)| &item.to.db).collect::<BTreeSet<_>>() {
        existing.extend(list(cancel, target, db, &mut warnings).await?);
    }
    let mut namespaces = Vec::with_capacity(items.len());
    for (item, from) in &items {
        let replaces_documents = match existing.get(&item.to) {
            None => None,
            Some(CollectionKind::View) => Some(0),
            Some(CollectionKind::Timeseries) => {
                let buckets = Namespace::new(&item.to.db, format!("{BUCKETS_PREFIX}{}", item.to.collection));
                Some(count(cancel, target, &buckets).await?)
            }
            Some(CollectionKind::Collection) => Some(count(cancel, target, &item.to).await?),
        };
        namespaces.push(PlannedNamespace {
            from: from.clone(),
            to: item.to.clone(),
            kind: item.kind(),
            action: if replaces_documents.is_some() { PlannedAction::Replace } else { PlannedAction::Create },
            documents: documents(manifest, item),
            uncounted: is_uncounted(manifest, item),
            replaces_documents,
        });
    }
    let (dropped, untouched) = bystanders(&survey, request, &items, &existing);
    let users_of = users(manifest, &survey, request, &items, &mut left_out, &mut warnings);
    if users_of.is_some() {
        staging::check(cancel, target).await?;
    }
    advise(request, &items, &survey, &mut left_out, &mut warnings);
    if namespaces.iter().any(|n| n.action == PlannedAction::Replace) {
        let to = escape(target.service());
        warnings.push(format!("stop what writes to {to} first: its changes would be mixed with what is restored"));
    }
    let plan = RestorePlan {
        files: None,
        backup: manifest.name.clone(),
        from_service: manifest.service.clone(),
        to_service: target.service().to_owned(),
        // Of a dump without an oplog nobody knows it.
        consistent_at_ts: until.if_known(),
        target_version: facts.version.clone(),
        target_fcv: facts.fcv.clone().unwrap_or_default(),
        namespaces,
        dropped,
        untouched,
        left_out,
        users_and_roles: users_of.is_some(),
        users_of: users_of.unwrap_or_default(),
        safety_backup: None,
        point_in_time: None,
        warnings,
    };
    let takes = UpdateForms::taken_by(facts.numbers, facts.fcv.as_deref());
    Ok(Draft { plan, survey, takes, items: items.into_iter().map(|(item, _)| item).collect() })
}

fn compatible(
    manifest: &LogicalManifest,
    facts: &topology::Facts,
    service: &str,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let older = |what: &str, target: &str, source: &str| {
        Error::new(
            ErrorKind::Unsupported,
            format!("service {service} has {what} {target}, the backup was made at {source}"),
        )
    };
    let (source, target) = (release(&manifest.server_version), release(&facts.version));
    if source > target {
        return Err(older("MongoDB", &facts.version, &manifest.server_version)
            .hint("restore into a server of the same or a newer release"));
    }
    if source != target {
        warnings
            .push(format!("the backup is of MongoDB {}, the target has {}", manifest.server_version, facts.version));
    }
    match facts.fcv.as_deref() {
        Some(fcv) if release(&manifest.fcv) > release(fcv) => {
            Err(older("feature compatibility version", fcv, &manifest.fcv)
                .hint(format!("raise it: db.adminCommand({{setFeatureCompatibilityVersion: \"{}\"}})", manifest.fcv)))
        }
        Some(_) => Ok(()),
        None => {
            warnings.push("the target's feature compatibility version may not be read, so it was not compared".into());
            Ok(())
        }
    }
}

/// A replica set may be of a newer release since its base was made: what it recorded is then of that one.
async fn recorded_on(
    stored: &OpenBackup,
    cancel: &CancellationToken,
    facts: &topology::Facts,
    service: &str,
) -> Result<()> {
    let Some(version) = stored.recorded_on(cancel).await? else { return Ok(()) };
    if release(&version) <= release(&facts.version) {
        return Ok(());
    }
    let (service, version) = (escape(service), escape(&version));
    let message =
        format!("service {service} has MongoDB {}, the oplog of that moment was recorded on {version}", facts.version);
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("restore into a server of the same or a newer release, or to a moment before the source was upgraded"))
}

/// Makes every collection one that the target takes, and says what that changes.
fn fit(
    facts: &topology::Facts,
    items: &mut [(Item, Namespace)],
    left_out: &mut Vec<LeftOut>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let server = Target::server(&facts.version, facts.fcv.as_deref());
    for (item, from) in items {
        let What::Collection { collection, .. } = &mut item.what else { continue };
        for change in server.fit(from, &item.to, collection)? {
            warnings.push(format!("MongoDB {} does not take {}: {}", facts.version, change.what, change.why));
            left_out.push(change);
        }
    }
    Ok(())
}

fn included(request: &RestoreRequest, ns: &Namespace) -> bool {
    request.include.is_empty() || request.include.iter().any(|p| p.matches(ns))
}

/// What is to be created, each with its name in the backup, in order of that.
fn items(survey: &Survey, request: &RestoreRequest, left_out: &mut Vec<LeftOut>) -> Result<Vec<(Item, Namespace)>> {
    let collections = survey.catalogue.collections().map(|(uuid, collection)| {
        (collection.namespace.clone(), What::Collection { uuid: *uuid, collection: Box::new(collection.clone()) })
    });
    let views = survey.catalogue.views().iter().map(|(ns, view)| (ns.clone(), What::View(view.clone())));
    let mut all: Vec<(Namespace, What)> = collections.chain(views).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut items = Vec::new();
    for (from, what) in all {
        let is_authorization = from.db == "admin" && (from.collection == USERS || from.collection == ROLES);
        if is_authorization {
            continue;
        }
        if !is_restorable(&from) {
            left_out.push(LeftOut { what: from.to_string(), why: "belongs to the server itself".into() });
        } else if !included(request, &from) {
            left_out.push(LeftOut::not_included(from.to_string()));
        } else {
            items.push((Item { to: renamed(&request.rename, &from), what }, from));
        }
    }
    Ok(items)
}

/// A pattern or rename that means nothing is a typing error, and silence about it would look like success.
fn check_selection(backup: &str, survey: &Survey, request: &RestoreRequest) -> Result<()> {
    let names: Vec<&Namespace> =
        survey.catalogue.collections().map(|(_, c)| &c.namespace).chain(survey.catalogue.views().keys()).collect();
    if let Some(pattern) = request.include.iter().find(|p| !names.iter().any(|ns| p.matches(ns))) {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("--include {}: the backup holds no such collection", escape(&pattern.to_string())),
        )
        .hint(format!(
            "names are those at the end of the backup; mongokeep backup show {} lists those at its beginning",
            escape(backup)
        )));
    }
    if let Some((one, other)) = contradicting(&request.rename) {
        let (one, other) = (escape(&one.to_string()), escape(&other.to_string()));
        return Err(Error::invalid("rename", format!("{one} and {other} are of the same source")));
    }
    let means_something = |rename: &Rename| match rename {
        Rename::Database { from, .. } => names.iter().any(|ns| ns.db == *from && included(request, ns)),
        Rename::Collection { from, .. } => names.iter().any(|ns| *ns == from && included(request, ns)),
    };
    match request.rename.iter().find(|r| !means_something(r)) {
        None => Ok(()),
        Some(rename) => Err(Error::invalid(
            "rename",
            format!("nothing that is restored is called as in {}", escape(&rename.to_string())),
        )),
    }
}

fn check_collisions(items: &[(Item, Namespace)]) -> Result<()> {
    let mut by_target: BTreeMap<&Namespace, &Namespace> = BTreeMap::new();
    for (item, from) in items {
        if let Some(other) = by_target.insert(&item.to, from) {
            return Err(Error::invalid(
                "rename",
                format!(
                    "{} and {} would both become {}",
                    escape(&other.to_string()),
                    escape(&from.to_string()),
                    escape(&item.to.to_string())
                ),
            ));
        }
        let renamed_into = item.to != *from && !is_restorable(&item.to);
        if renamed_into {
            return Err(Error::invalid(
                "rename",
                format!("{} belongs to the server itself", escape(&item.to.to_string())),
            ));
        }
    }
    Ok(())
}

/// A server has no two databases whose names differ only in case, and says so when the second of them is created: too
/// late (code 13297).
fn check_case(items: &[(Item, Namespace)], present: &[String]) -> Result<()> {
    let wanted: BTreeSet<&str> = items.iter().map(|(item, _)| item.to.db.as_str()).collect();
    for db in &wanted {
        let same = |other: &str| other != *db && other.eq_ignore_ascii_case(db);
        let there = present.iter().map(String::as_str).find(|other| same(other));
        let (other, where_) = match (there, wanted.iter().find(|other| same(other))) {
            (Some(other), _) => (other, "is in the target"),
            (None, Some(other)) => (*other, "is to be restored too"),
            (None, None) => continue,
        };
        let (db, other) = (escape(db), escape(other));
        let why = format!("{db} and {other}, which {where_}, differ only in case; a server has one of them at most");
        return Err(Error::invalid("rename", why));
    }
    Ok(())
}

/// The names of the target's databases. The role `restore` alone may not list all of them.
async fn databases(cancel: &CancellationToken, target: &Server, warnings: &mut Vec<String>) -> Result<Vec<String>> {
    match namespaces::databases(target, cancel).await {
        Err(e) if e.kind() == ErrorKind::Denied => {
            warnings.push(
                "the user may not list all databases of the target (the role clusterMonitor may): one whose name differs \
                 only in case from one that is restored would be found too late"
                    .into(),
            );
            Ok(namespaces::readable_databases(target, cancel).await?.0)
        }
        other => Ok(other?.0),
    }
}

/// What a database of the target holds, without what belongs to the server or stands behind a time series or view.
///
/// What has a name that is not UTF-8 can be neither shown nor dropped: it stays, which is a warning.
async fn list(
    cancel: &CancellationToken,
    target: &Server,
    db: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<(Namespace, CollectionKind)>> {
    let found = namespaces::list_database(target, cancel, db, Document::new()).await?;
    for Unnamed { shown, .. } in found.unnamed {
        warnings.push(format!("{shown} of the target stays as it is: its name is not UTF-8"));
    }
    let mut out = Vec::new();
    for entry in found.entries {
        let name = entry.ns.collection.as_str();
        if name.is_empty() || (name.starts_with("system.") && name != "system.js") {
            continue;
        }
        let kind = match entry.kind.as_str() {
            "view" => CollectionKind::View,
            "timeseries" => CollectionKind::Timeseries,
            _ => CollectionKind::Collection,
        };
        out.push((entry.ns, kind));
    }
    Ok(out)
}

async fn count(cancel: &CancellationToken, target: &Server, ns: &Namespace) -> Result<u64> {
    let reply = target.command(cancel, &ns.db, doc! {"count": ns.collection.as_str()}).await?;
    let n = reply.get_i32("n").map(i64::from).or_else(|_| reply.get_i64("n")).unwrap_or(0);
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Documents as they were read; the oplog may add and remove some. `None`: all of them come from there.
fn documents(manifest: &LogicalManifest, item: &Item) -> Option<u64> {
    match &item.what {
        What::Collection { collection, .. } => collection
            .source
            .and_then(|n| manifest.collections.get(n))
            .filter(|entry| entry.counted)
            .map(|entry| entry.documents),
        What::View(_) => Some(0),
    }
}

/// Whether nobody wrote down how many documents the backup holds of it.
fn is_uncounted(manifest: &LogicalManifest, item: &Item) -> bool {
    let What::Collection { collection, .. } = &item.what else { return false };
    collection.source.and_then(|n| manifest.collections.get(n)).is_some_and(|entry| !entry.counted)
}

/// What else the restored databases of the target hold: to be dropped, and to be left alone.
fn bystanders(
    survey: &Survey,
    request: &RestoreRequest,
    items: &[(Item, Namespace)],
    existing: &BTreeMap<Namespace, CollectionKind>,
) -> (Vec<Namespace>, Vec<Namespace>) {
    let targets: BTreeSet<&Namespace> = items.iter().map(|(item, _)| &item.to).collect();
    // A collection that the backup has, but this restore does not include, is not lacking.
    let in_backup: BTreeSet<Namespace> = survey
        .catalogue
        .collections()
        .map(|(_, c)| &c.namespace)
        .chain(survey.catalogue.views().keys())
        .map(|ns| renamed(&request.rename, ns))
        .collect();
    existing.keys().filter(|ns| !targets.contains(ns)).cloned().partition(|ns| {
        let droppable = ns.db != "admin" && !ns.collection.starts_with("system.");
        request.exact && droppable && !in_backup.contains(ns)
    })
}

/// Of which databases users and roles are restored: `None` when they are not, empty for all.
fn users(
    manifest: &LogicalManifest,
    survey: &Survey,
    request: &RestoreRequest,
    items: &[(Item, Namespace)],
    left_out: &mut Vec<LeftOut>,
    warnings: &mut Vec<String>,
) -> Option<Vec<String>> {
    let theirs = |ns: &Namespace| ns.db == "admin" && (ns.collection == USERS || ns.collection == ROLES);
    // The first of them may have come after the backup was read.
    let held = manifest.collections.iter().any(|c| theirs(&c.namespace))
        || (manifest.selection.is_everything() && survey.users_changed);
    if !request.users_and_roles {
        if held {
            left_out.push(LeftOut { what: "users and roles".into(), why: "not asked for (--users-and-roles)".into() });
        }
        return None;
    }
    if !held {
        warnings.push("the backup holds no users and roles".into());
        left_out.push(LeftOut { what: "users and roles".into(), why: "not in the backup".into() });
        return None;
    }
    warnings.push("users and roles of the same names are replaced in the target".into());
    if request.exact {
        warnings.push("users and roles that the backup lacks are removed from the target".into());
    }
    if request.include.is_empty() {
        return Some(Vec::new());
    }
    if items.iter().any(|(item, from)| item.to.db != from.db) {
        warnings.push("users and roles keep the database they were defined in; renames do not change it".into());
    }
    let of: BTreeSet<String> = items.iter().map(|(_, from)| from.db.clone()).collect();
    Some(of.into_iter().collect())
}

/// What a person should know before confirming.
fn advise(
    request: &RestoreRequest,
    items: &[(Item, Namespace)],
    survey: &Survey,
    left_out: &mut Vec<LeftOut>,
    warnings: &mut Vec<String>,
) {
    let mut expiring = 0;
    for (item, from) in items {
        match &item.what {
            What::Collection { collection, .. } => {
                let by_option = collection.options.contains_key("expireAfterSeconds");
                let ttl = collection.indexes.iter().filter(|i| is_ttl(i));
                if request.no_ttl {
                    for index in ttl {
                        let name = index.get("name").map_or_else(|| "?".to_owned(), |e| e.lossy());
                        left_out.push(LeftOut { what: format!("index {name} of {from}"), why: NO_TTL.into() });
                    }
                    if by_option {
                        left_out.push(LeftOut { what: format!("expiry of {from}"), why: NO_TTL.into() });
                    }
                } else if by_option || ttl.count() > 0 {
                    expiring += 1;
                }
            }
            What::View(view) => {
                if item.to.db != from.db {
                    warnings.push(format!(
                        "the view {} keeps reading from collections by name, now in {}",
                        from, item.to.db
                    ));
                } else if let Some(on) = view.options.get_str("viewOn") {
                    let source = Namespace::new(&from.db, on);
                    if request.rename.iter().any(|r| matches!(r, Rename::Collection { from, .. } if *from == source)) {
                        warnings.push(format!(
                            "the view {from} keeps reading from {source}, which is restored under another name"
                        ));
                    }
                }
            }
        }
    }
    if expiring > 0 {
        let which = if expiring == 1 { "a collection has".to_owned() } else { format!("{expiring} collections have") };
        warnings.push(format!(
            "{which} expiring documents: the target deletes what is too old right after the restore (--no-ttl keeps it)"
        ));
    }
    if !survey.open.is_empty() {
        left_out.push(LeftOut {
            what: counted(survey.open.len() as u64, "transaction"),
            why: "they were not committed at the moment that is restored".into(),
        });
    }
}

const NO_TTL: &str = "documents would expire (--no-ttl)";
