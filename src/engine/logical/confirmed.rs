//! Whether what is carried out is still what a person confirmed.

use std::collections::BTreeMap;

use crate::domain::namespace::Namespace;
use crate::domain::restore::{PlannedNamespace, RestorePlan};
use crate::domain::text::{counted, escape};
use crate::error::{Error, ErrorKind, Result};

/// Whether carrying out `now` would touch more than a person confirmed.
///
/// Errors: `Conflict`, naming what changed.
pub(super) fn check_confirmed(confirmed: &RestorePlan, now: &RestorePlan) -> Result<()> {
    let conflict = |what: String| {
        Err(Error::new(ErrorKind::Conflict, format!("the target is no longer as the plan shows: {what}")))
    };
    if confirmed.to_service != now.to_service || confirmed.backup != now.backup {
        return conflict("it is a plan for something else".into());
    }
    let before: BTreeMap<&Namespace, &PlannedNamespace> = confirmed.namespaces.iter().map(|n| (&n.to, n)).collect();
    for planned in &now.namespaces {
        let shown = escape(&planned.to.to_string());
        match (before.get(&planned.to), planned.replaces_documents) {
            (None, _) => return conflict(format!("{shown} was not in it")),
            (Some(old), Some(n)) if old.replaces_documents.is_none() => {
                return conflict(format!("{shown} exists now, with {}", counted(n, "document")));
            }
            (Some(old), Some(n)) if old.replaces_documents == Some(0) && n > 0 => {
                return conflict(format!("{shown} was empty and holds {} now", counted(n, "document")));
            }
            _ => {}
        }
    }
    if let Some(ns) = now.dropped.iter().find(|ns| !confirmed.dropped.contains(ns)) {
        return conflict(format!("{} would be dropped too", escape(&ns.to_string())));
    }
    if now.users_and_roles && (!confirmed.users_and_roles || confirmed.users_of != now.users_of) {
        return conflict("users and roles would be restored".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::restore::{CollectionKind, PlannedAction};

    fn planned(to: &str, replaces: Option<u64>) -> PlannedNamespace {
        let ns = Namespace::parse(to).unwrap();
        PlannedNamespace {
            from: ns.clone(),
            to: ns,
            kind: CollectionKind::Collection,
            action: if replaces.is_some() { PlannedAction::Replace } else { PlannedAction::Create },
            documents: Some(1),
            uncounted: false,
            replaces_documents: replaces,
        }
    }

    fn a_plan(namespaces: Vec<PlannedNamespace>, dropped: &[&str]) -> RestorePlan {
        RestorePlan {
            files: None,
            backup: "b".into(),
            from_service: "s".into(),
            to_service: "t".into(),
            consistent_at_ts: None,
            target_version: "6.0.5".into(),
            target_fcv: "6.0".into(),
            namespaces,
            dropped: dropped.iter().map(|d| Namespace::parse(d).unwrap()).collect(),
            untouched: vec![],
            left_out: vec![],
            users_and_roles: false,
            users_of: vec![],
            safety_backup: None,
            point_in_time: None,
            warnings: vec![],
        }
    }

    #[test]
    fn more_than_was_confirmed_is_refused() {
        let confirmed = a_plan(vec![planned("a.x", None), planned("a.y", Some(5)), planned("a.z", Some(0))], &["a.q"]);
        let allowed = [
            a_plan(vec![planned("a.x", None), planned("a.y", Some(7))], &["a.q"]),
            a_plan(vec![planned("a.y", None), planned("a.z", Some(0))], &[]),
        ];
        for now in allowed {
            check_confirmed(&confirmed, &now).unwrap();
        }
        let refused = [
            a_plan(vec![planned("a.x", Some(0))], &[]),
            a_plan(vec![planned("a.z", Some(1))], &[]),
            a_plan(vec![planned("a.new", None)], &[]),
            a_plan(vec![], &["a.q", "a.r"]),
            RestorePlan { users_and_roles: true, ..a_plan(vec![], &[]) },
            RestorePlan { to_service: "other".into(), ..a_plan(vec![], &[]) },
        ];
        for now in refused {
            assert_eq!(check_confirmed(&confirmed, &now).unwrap_err().kind(), ErrorKind::Conflict, "{now:?}");
        }
    }
}
