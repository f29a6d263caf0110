//! Which collections belong into a backup, under which name, and what is left out and why.
//!
//! The server's own bookkeeping is left out in silence; anything that may be somebody's data is named.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifact::bson;
use crate::domain::namespace::{Namespace, Pattern, Selection};
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::text::{counted, escape};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::namespaces::{Listed, Listing, NOT_UTF8, Unnamed, Uuid};
use crate::mongo::oplog::catalogue::BUCKETS_PREFIX;

/// One collection, time series or view to be backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name people use: of a time series, not of its buckets.
    pub ns: Namespace,
    pub kind: CollectionKind,
    /// Of the collection that holds the documents; none for a view.
    pub uuid: Option<Uuid>,
    /// BSON.
    pub options: Vec<u8>,
    pub capped: bool,
    /// Stored in the order of `_id`, without an index on it.
    pub clustered: bool,
    /// Texts that differ may be one `_id`.
    pub collated: bool,
}

impl Source {
    /// The collection that holds the documents.
    pub fn stored_in(&self) -> Namespace {
        match self.kind {
            CollectionKind::Timeseries => {
                Namespace::new(&self.ns.db, format!("{BUCKETS_PREFIX}{}", self.ns.collection))
            }
            _ => self.ns.clone(),
        }
    }
}

/// Errors: `Unsupported`, naming them, where two of `sources` differ only in case: the storage at `place` would take one for
/// the other.
pub fn require_apart(sources: &[Source], place: &str) -> Result<()> {
    let mut seen: BTreeMap<String, &Namespace> = BTreeMap::new();
    for source in sources {
        let Some(other) = seen.insert(source.ns.to_string().to_lowercase(), &source.ns) else { continue };
        let (one, two) = (escape(&other.to_string()), escape(&source.ns.to_string()));
        let what = format!("{one} and {two} differ only in case, and are one name in {}", escape(place));
        return Err(Error::new(ErrorKind::Unsupported, what)
            .hint(format!("use a storage that tells them apart, or leave one out: --exclude {two}")));
    }
    Ok(())
}

/// What of `config` is a cluster's configuration rather than a server's bookkeeping.
const CONFIG_KEPT: [&str; 7] = ["chunks", "collections", "databases", "settings", "shards", "tags", "version"];

/// Sorts what `listCollections` gave.
///
/// Errors: `NotFound` when nothing that is there was chosen; `Unsupported` for a time series that is stored in a way this
/// version cannot read.
pub fn select(listing: Listing, selection: &Selection) -> Result<(Vec<Source>, Vec<LeftOut>)> {
    let mut buckets: BTreeMap<Namespace, Listed> = BTreeMap::new();
    let mut others = Vec::new();
    for entry in listing.entries {
        match entry.ns.collection.strip_prefix(BUCKETS_PREFIX) {
            Some(name) => {
                buckets.insert(Namespace::new(&entry.ns.db, name), entry);
            }
            None => others.push(entry),
        }
    }
    let mut sources = Vec::new();
    let mut left_out = Vec::new();
    let mut excluded = vec![0_u64; selection.exclude.len()];
    let mut seen = BTreeSet::new();
    let mut without_match: Vec<&Pattern> = selection.include.iter().collect();
    for entry in others {
        let fate = fate(&entry.ns);
        if !matches!(fate, Fate::Internal) {
            without_match.retain(|pattern| !pattern.matches(&entry.ns));
        }
        match fate {
            Fate::Internal => continue,
            Fate::LeftOut(why) => {
                left_out.push(LeftOut { what: escape(&entry.ns.to_string()), why: why.into() });
                continue;
            }
            Fate::Kept => {}
        }
        if !selection.selects(&entry.ns) {
            for (pattern, count) in selection.exclude.iter().zip(&mut excluded) {
                *count += u64::from(pattern.matches(&entry.ns));
            }
            continue;
        }
        let source = match entry.kind.as_str() {
            "view" => Source {
                ns: entry.ns,
                kind: CollectionKind::View,
                uuid: None,
                options: entry.options,
                capped: false,
                clustered: false,
                collated: false,
            },
            "timeseries" => {
                let stored = buckets.remove(&entry.ns).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unsupported,
                        format!("the time series {} has no buckets collection", escape(&entry.ns.to_string())),
                    )
                    .hint("this server stores time series in a way this version cannot read; exclude it with --exclude")
                })?;
                Source {
                    ns: entry.ns,
                    kind: CollectionKind::Timeseries,
                    uuid: stored.uuid,
                    options: entry.options,
                    capped: false,
                    clustered: true,
                    collated: false,
                }
            }
            _ => Source {
                capped: flag(&entry.options, "capped"),
                clustered: bson::get(&entry.options, "clusteredIndex").is_some(),
                collated: bson::get(&entry.options, "collation").is_some(),
                ns: entry.ns,
                kind: CollectionKind::Collection,
                uuid: entry.uuid,
                options: entry.options,
            },
        };
        // One collection under two names would be read twice (a rename while databases were listed).
        if source.uuid.is_none_or(|uuid| seen.insert(uuid)) {
            sources.push(source);
        }
    }
    for (ns, _) in buckets.into_iter().filter(|(ns, _)| selection.selects(ns) && !sources.iter().any(|s| s.ns == *ns)) {
        let what = escape(&format!("{}.{BUCKETS_PREFIX}{}", ns.db, ns.collection));
        left_out.push(LeftOut { what, why: "buckets of a time series that does not exist".into() });
    }
    for Unnamed { shown, like } in listing.unnamed {
        if like.db == "local" || like.db == "config" {
            continue;
        }
        without_match.retain(|pattern| !pattern.matches(&like));
        if selection.selects(&like) {
            left_out.push(LeftOut { what: shown, why: NOT_UTF8.into() });
            continue;
        }
        for (pattern, count) in selection.exclude.iter().zip(&mut excluded) {
            *count += u64::from(pattern.matches(&like));
        }
    }
    let include: Vec<String> = selection.include.iter().map(ToString::to_string).collect();
    if sources.is_empty() && (!include.is_empty() || excluded.iter().any(|count| *count > 0)) {
        let chosen = match include.is_empty() {
            true => "everything there is was excluded".to_owned(),
            false => format!("there is nothing that --include {} chooses", escape(&include.join(", "))),
        };
        return Err(Error::new(ErrorKind::NotFound, format!("{chosen}; a backup of nothing is none"))
            .hint("choose by names as the server has them: DATABASE or DATABASE.COLLECTION, * for any characters"));
    }
    for pattern in without_match {
        left_out.push(LeftOut { what: escape(&pattern.to_string()), why: NO_MATCH.into() });
    }
    if !include.is_empty() {
        let what = format!("everything but {}", escape(&include.join(", ")));
        left_out.push(LeftOut { what, why: "not included in the backup".into() });
    }
    for (pattern, count) in selection.exclude.iter().zip(excluded).filter(|(_, count)| *count > 0) {
        let what = format!("{} ({})", escape(&pattern.to_string()), counted(count, "collection"));
        left_out.push(LeftOut { what, why: "excluded".into() });
    }
    Ok((sources, left_out))
}

/// Why a pattern of the selection is among what is left out.
pub const NO_MATCH: &str = "nothing is called so";

enum Fate {
    Kept,
    /// The server's own, made anew wherever it is needed.
    Internal,
    LeftOut(&'static str),
}

fn fate(ns: &Namespace) -> Fate {
    let name = ns.collection.as_str();
    match ns.db.as_str() {
        "local" => {
            let own = ["oplog.", "replset.", "system.", "startup_log", "clustermanager", "tenantMigration"];
            if own.iter().any(|prefix| name.starts_with(prefix)) {
                Fate::Internal
            } else {
                Fate::LeftOut("the database local belongs to one member and is not replicated")
            }
        }
        "config" if CONFIG_KEPT.contains(&name) => Fate::Kept,
        "config" => {
            let own = [
                "system.",
                "transactions",
                "image_collection",
                "external_validation_keys",
                "cache.",
                "localReshard",
                "reshard",
                "migration",
                "rangeDeletions",
                "tenant",
                "shardSplit",
                "vectorClock",
                "locks",
                "lockpings",
                "mongos",
                "changelog",
                "actionlog",
                "transaction_coordinators",
                "csrs.",
                "analyz",
                "sampledQueries",
                "queryAnalyz",
                "placementHistory",
                "shardMergeRecipients",
            ];
            if own.iter().any(|prefix| name.starts_with(prefix)) {
                Fate::Internal
            } else {
                Fate::LeftOut("the database config belongs to the server")
            }
        }
        "admin" if matches!(name, "system.users" | "system.roles" | "system.js") => Fate::Kept,
        // The FCV, keys of the cluster, and the state of other backup tools: never restored into another server.
        "admin" if name.starts_with("system.") => Fate::Internal,
        "admin" if super::staging::is_staging(ns) => Fate::LeftOut(
            "users and roles on their way into the server, left by a restore that is running or was killed",
        ),
        "admin" if name.starts_with("pbm") => Fate::LeftOut("state of Percona Backup for MongoDB"),
        _ => match name {
            "system.js" => Fate::Kept,
            // Views are kept one by one; profiling data is the server's own.
            "system.views" | "system.profile" => Fate::Internal,
            _ if name.starts_with("system.") => Fate::LeftOut("a system collection of the server"),
            _ => Fate::Kept,
        },
    }
}

fn flag(options: &[u8], key: &str) -> bool {
    bson::get(options, key).is_some_and(|e| e.truthy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(ns: &str, kind: &str, uuid: u8) -> Listed {
        let ns = Namespace::parse(ns).unwrap();
        Listed { ns, kind: kind.into(), uuid: (uuid > 0).then_some([uuid; 16]), options: vec![5, 0, 0, 0, 0] }
    }

    fn of(entries: Vec<Listed>) -> Listing {
        Listing { entries, unnamed: Vec::new() }
    }

    fn names(sources: &[Source]) -> Vec<String> {
        sources.iter().map(|s| s.ns.to_string()).collect()
    }

    #[test]
    fn the_servers_own_stays_out_and_data_is_named() {
        let all = vec![
            listed("shop.orders", "collection", 1),
            listed("shop.v", "view", 0),
            listed("shop.system.views", "collection", 2),
            listed("shop.system.js", "collection", 3),
            listed("shop.system.profile", "collection", 4),
            listed("shop.ts", "timeseries", 0),
            listed("shop.system.buckets.ts", "collection", 5),
            listed("shop.system.buckets.gone", "collection", 6),
            listed("admin.system.users", "collection", 7),
            listed("admin.system.version", "collection", 8),
            listed("admin.system.keys", "collection", 9),
            listed("admin.pbmBackups", "collection", 10),
            listed("admin.mine", "collection", 11),
            listed("config.transactions", "collection", 12),
            listed("config.settings", "collection", 13),
            listed("config.mine", "collection", 14),
            listed("local.oplog.rs", "collection", 15),
            listed("local.mine", "collection", 16),
        ];
        let (sources, left_out) = select(of(all), &Selection::default()).unwrap();
        assert_eq!(
            names(&sources),
            [
                "shop.orders",
                "shop.v",
                "shop.system.js",
                "shop.ts",
                "admin.system.users",
                "admin.mine",
                "config.settings"
            ]
        );
        let ts = &sources[3];
        assert_eq!((ts.kind, ts.uuid), (CollectionKind::Timeseries, Some([5; 16])));
        assert_eq!(ts.stored_in().to_string(), "shop.system.buckets.ts");
        let named: Vec<&str> = left_out.iter().map(|l| l.what.as_str()).collect();
        assert_eq!(named, ["admin.pbmBackups", "config.mine", "local.mine", "shop.system.buckets.gone"]);
    }

    #[test]
    fn what_a_selection_excludes_is_named_once_for_each_pattern() {
        let all =
            || vec![listed("a.x", "collection", 1), listed("a.y", "collection", 2), listed("b.x", "collection", 3)];
        let exclude = Selection { include: vec![], exclude: vec!["a".parse().unwrap(), "z.*".parse().unwrap()] };
        let (sources, left_out) = select(of(all()), &exclude).unwrap();
        assert_eq!(names(&sources), ["b.x"]);
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].what, "a (2 collections)");
        let include = Selection { include: vec!["*.x".parse().unwrap()], exclude: vec![] };
        let (sources, left_out) = select(of(all()), &include).unwrap();
        assert_eq!(names(&sources), ["a.x", "b.x"]);
        assert_eq!(left_out[0].what, "everything but *.x");
        let typo = Selection { include: vec!["a.x".parse().unwrap(), "shpo".parse().unwrap()], exclude: vec![] };
        let (sources, left_out) = select(of(all()), &typo).unwrap();
        assert_eq!(names(&sources), ["a.x"]);
        assert_eq!((left_out[0].what.as_str(), left_out[0].why.as_str()), ("shpo", NO_MATCH));
        for nothing in [
            Selection { include: vec!["shpo".parse().unwrap()], exclude: vec![] },
            Selection { include: vec!["a".parse().unwrap()], exclude: vec!["a.*".parse().unwrap()] },
            Selection { include: vec![], exclude: vec!["*".parse().unwrap()] },
        ] {
            assert_eq!(select(of(all()), &nothing).unwrap_err().kind(), ErrorKind::NotFound, "{nothing:?}");
        }
        // A server that holds nothing yet may be backed up.
        assert_eq!(select(of(vec![]), &Selection::default()).unwrap().0, []);
    }

    #[test]
    fn a_time_series_without_buckets_is_refused_rather_than_forgotten() {
        let error = select(of(vec![listed("a.ts", "timeseries", 0)]), &Selection::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
