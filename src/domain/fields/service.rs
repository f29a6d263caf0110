//! The fields of a service.

use super::rules::{absolute_rule, command_rule, folder_rule, hours_rule, name_rule};
use crate::domain::field::{Field, FieldKind};
use crate::domain::service::{EngineKind, ServiceSpec};
use crate::domain::typed::{Typed, described, optional_text, plain_text, secret_text, word};
use crate::domain::uri;

/// A MongoDB deployment.
pub const SERVICE: &[Typed<ServiceSpec>] = &[
    plain_text!(
        Field::new("name", "Name", FieldKind::Text, "how this service is called here").required().check(name_rule),
        name
    ),
    secret_text!(
        Field::new("uri", "Connection string", FieldKind::Secret, "mongodb://user:password@host:27017/?replicaSet=rs0")
            .required()
            .check(uri::check),
        uri
    ),
    optional_text!(
        Field::new("cluster", "Cluster label", FieldKind::Text, "the folder of its backups unless another is given")
            .check(folder_rule),
        cluster
    ),
    word!(
        Field::new(
            "engine",
            "Engine",
            FieldKind::Choice(EngineKind::OF_SERVICES),
            "what makes the backups: this program, or PBM",
        )
        .default("native")
        .advanced(),
        engine
    ),
    optional_text!(
        Field::new(
            "production_hours",
            "Production hours",
            FieldKind::Text,
            "08:00-18:00 or Mon-Fri 08:00-18:00, in which a full backup is unwelcome; empty: the setting production_hours",
        )
        .advanced()
        .check(hours_rule),
        production_hours
    ),
    optional_text!(
        Field::new(
            "data_dir",
            "Data folder",
            FieldKind::Text,
            "physical backups: where the data folder of its member is on this host; empty: where the server says",
        )
        .advanced()
        .check(absolute_rule),
        data_dir
    ),
    optional_text!(
        Field::new(
            "stop_command",
            "Stop command",
            FieldKind::Text,
            "stops its member on this host, such as systemctl stop mongod; for a physical restore over it",
        )
        .advanced()
        .check(command_rule),
        stop_command
    ),
    optional_text!(
        Field::new("start_command", "Start command", FieldKind::Text, "starts it again, such as systemctl start mongod")
            .advanced()
            .check(command_rule),
        start_command
    ),
];
pub const SERVICE_FIELDS: &[Field] = &described::<_, { SERVICE.len() }>(SERVICE);
