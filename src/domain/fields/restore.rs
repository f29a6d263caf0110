//! The fields of a restore.

use super::encryption::IDENTITY_FIELD;
use super::rules::{
    absolute_rule, backup_rule, member_rule, name_rule, path_rule, pattern_rule, plain_rule, rename_rule,
    replset_map_rule, when_rule,
};
use crate::domain::field::{Field, FieldKind};
use crate::domain::restore::RestoreDraft;
use crate::domain::typed::{Typed, described, list, optional, optional_text, plain_text, switch};

/// `restore`.
pub const RESTORE: &[Typed<RestoreDraft>] = &[
    plain_text!(
        Field::new("backup", "Backup", FieldKind::Backup, "what is restored").required().check(backup_rule),
        backup
    ),
    plain_text!(
        Field::new("to", "Into service", FieldKind::Service, "where it is written").required().check(name_rule),
        to
    ),
    list!(
        Field::new("include", "Include", FieldKind::List, "only these namespaces, by their names in the backup")
            .check(pattern_rule),
        include
    ),
    list!(
        Field::new("rename", "Rename", FieldKind::List, "FROM=TO: two databases (a=b) or two namespaces (a.x=b.y)")
            .check(rename_rule),
        rename
    ),
    switch!(
        Field::new(
            "exact",
            "Exact",
            FieldKind::Bool,
            "also drop collections of the restored databases that the backup lacks",
        )
        .default("false"),
        exact
    ),
    switch!(
        Field::new(
            "no_ttl",
            "Without TTL indexes",
            FieldKind::Bool,
            "so that the target does not delete what was recovered",
        )
        .default("false"),
        no_ttl
    ),
    switch!(
        Field::new(
            "users_and_roles",
            "Users and roles",
            FieldKind::Bool,
            "of the restored databases; all of them when everything is restored",
        )
        .default("false"),
        users_and_roles
    ),
    list!(
        Field::new(
            "replset_map",
            "Replica sets",
            FieldKind::List,
            "FROM=TO: replica sets that have other names in the target; only where PBM restores",
        )
        .advanced()
        .check(replset_map_rule),
        replset_map
    ),
    switch!(
        Field::new("safety_backup", "Safety backup", FieldKind::Bool, "back the target up first")
            .default("false")
            .advanced(),
        safety_backup
    ),
];
pub const RESTORE_FIELDS: &[Field] = &described::<_, { RESTORE.len() }>(RESTORE);

/// `restore` to a moment, instead of the backup.
pub const MOMENT: &[Typed<RestoreDraft>] = &[
    plain_text!(
        Field::new("service", "Service", FieldKind::Service, "point in time: the service whose past is restored")
            .required()
            .check(name_rule),
        service
    ),
    optional!(
        Field::new(
            "time",
            "Moment",
            FieldKind::Text,
            "point in time: a time such as 2026-11-21T14:02:03Z (the end of that second), a position T,I, or latest",
        )
        .required()
        .check(when_rule),
        time
    ),
    optional_text!(
        Field::new(
            "base",
            "Base",
            FieldKind::Backup,
            "point in time: the backup to begin with; empty: the newest before the moment",
        )
        .advanced()
        .check(backup_rule),
        base
    ),
];
/// `restore` of a physical backup into a folder, instead of a service.
pub const DATA_FOLDER: &[Typed<RestoreDraft>] = &[
    optional_text!(
        Field::new(
            "to_data_dir",
            "Data folder",
            FieldKind::Text,
            "physical backups: an empty or missing folder of the daemon's host, which becomes a server's data folder",
        )
        .required()
        .check(path_rule),
        to_data_dir
    ),
    optional_text!(
        Field::new("replica_set", "Replica set", FieldKind::Text, "its name there; empty: the name it had")
            .check(plain_rule),
        replica_set
    ),
    Typed::new(
        Field::new("member", "Member", FieldKind::List, "HOST:PORT of each member; empty: localhost:27017")
            .check(member_rule),
        |of| of.members.clone(),
        |of, texts| {
            of.members = texts.to_vec();
            Ok(())
        },
    ),
];
pub const DATA_FOLDER_FIELDS: &[Field] = &described::<_, { DATA_FOLDER.len() }>(DATA_FOLDER);

/// `restore` of a physical backup, wherever to.
pub const FILES: &[Typed<RestoreDraft>] = &[
    optional_text!(
        Field::new(
            "mongod",
            "Server program",
            FieldKind::Text,
            "physical backups: a mongod of the same version; empty: the one found"
        )
        .advanced()
        .check(absolute_rule),
        mongod
    ),
    switch!(
        Field::new(
            "no_check",
            "Without a check",
            FieldKind::Bool,
            "physical backups: do not look at every collection before it is done"
        )
        .default("false")
        .advanced(),
        no_check
    ),
];
/// `restore` of anything that is encrypted.
pub const IDENTITY: &[Typed<RestoreDraft>] = &[optional_text!(IDENTITY_FIELD, identity_file)];
pub const IDENTITY_FIELDS: &[Field] = &described::<_, { IDENTITY.len() }>(IDENTITY);

pub const FILES_FIELDS: &[Field] = &described::<_, { FILES.len() }>(FILES);

pub const MOMENT_FIELDS: &[Field] = &described::<_, { MOMENT.len() }>(MOMENT);
