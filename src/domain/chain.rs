//! Chains of increments, as the catalogue knows them: a base, and what is based on it.

use super::backup::Backup;

/// The chain of `backup` among `all`, in its order: the base first. Empty for a backup of none.
pub fn chain<'a>(all: &'a [Backup], backup: &Backup) -> Vec<&'a Backup> {
    let Some(link) = &backup.chain else { return Vec::new() };
    let mut found: Vec<&Backup> = all
        .iter()
        .filter(|other| (&other.storage, &other.folder) == (&backup.storage, &backup.folder))
        .filter(|other| other.chain.as_ref().is_some_and(|of| of.base == link.base))
        .collect();
    found.sort_by_key(|other| {
        let is_increment = other.chain.as_ref().is_some_and(|of| of.source.is_some());
        (is_increment, other.consistent_at_ts, other.started_at, other.name.clone())
    });
    found
}

/// The place of `backup` in its chain, in words; `None` for a backup of none.
pub fn words(all: &[Backup], backup: &Backup) -> Option<String> {
    let link = backup.chain.as_ref()?;
    let members = chain(all, backup);
    // What is not in the catalogue has the name that its engine gave it.
    let called = |name: &String| {
        let known = members.iter().find(|other| other.engine_name() == Some(name.as_str()));
        known.map_or_else(|| name.clone(), |other| other.name.clone())
    };
    let Some(source) = &link.source else {
        let increments: Vec<&str> =
            members.iter().filter(|other| other.name != backup.name).map(|other| other.name.as_str()).collect();
        return Some(match increments.len() {
            0 => "base of a chain, no increment yet".to_owned(),
            1 => format!("base of 1 increment: {}", increments[0]),
            n => format!("base of {n} increments: {}", increments.join(", ")),
        });
    };
    Some(match *source == link.base {
        true => format!("increment of the base {}", called(source)),
        false => format!("increment of {}, in the chain of the base {}", called(source), called(&link.base)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::backup::ChainLink;

    fn backup(name: &str, pbm_name: &str, source: Option<&str>) -> Backup {
        let json = serde_json::json!({
            "name": name, "service": "s", "cluster": null, "storage": "t", "folder": "f", "engine": "pbm",
            "model": "physical", "type": "incremental", "schedule": null, "state": "succeeded", "pinned": false,
            "consistent_at": null, "consistent_at_ts": null, "size_bytes": null, "uncompressed_bytes": null,
            "documents": null, "new_bytes": null, "locked_millis": null, "pbm_name": pbm_name,
            "started_at": format!("{pbm_name}"), "finished_at": null, "server_version": null, "fcv": null,
            "compression": "none", "encryption": null, "error": null, "verified_at": null, "verify_error": null,
        });
        let chain = Some(ChainLink { base: "2026-11-01T00:00:00Z".into(), source: source.map(str::to_owned) });
        Backup { chain, ..serde_json::from_value(json).unwrap() }
    }

    #[test]
    fn a_chain_is_told_from_its_base_on() {
        let all = [
            backup("c", "2026-11-03T00:00:00Z", Some("2026-11-02T00:00:00Z")),
            backup("b", "2026-11-02T00:00:00Z", Some("2026-11-01T00:00:00Z")),
            backup("a", "2026-11-01T00:00:00Z", None),
        ];
        let names = |of: &Backup| chain(&all, of).into_iter().map(|b| b.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&all[0]), ["a", "b", "c"]);
        assert_eq!(words(&all, &all[2]).unwrap(), "base of 2 increments: b, c");
        assert_eq!(words(&all, &all[1]).unwrap(), "increment of the base a");
        assert_eq!(words(&all, &all[0]).unwrap(), "increment of b, in the chain of the base a");
        // Without a record of the base it has PBM's name.
        assert_eq!(words(&all[..2], &all[1]).unwrap(), "increment of the base 2026-11-01T00:00:00Z");
        let other = Backup { folder: "g".into(), ..all[2].clone() };
        assert_eq!(words(&all, &other).unwrap(), "base of a chain, no increment yet");
    }
}
