//! What is known about the service or storage that a row names.

use super::super::text::spinner;
use crate::domain::field::FieldKind;
use crate::domain::text::{bytes, escape};
use crate::tui::form::Row;
use crate::tui::model::{Load, Model};

/// Empty where nothing is known, or not yet.
pub(super) fn words(model: &Model, row: &Row) -> String {
    let value = row.value();
    match row.field.kind {
        FieldKind::Service => match model.infos.get(value) {
            Some(Load::Ready(info)) => {
                format!("MongoDB {} · {}", escape(&info.server_version), info.deployment())
            }
            Some(Load::Failed(_)) => "unreachable".into(),
            Some(Load::Waiting) => format!("{} asking the server", spinner(model)),
            None => String::new(),
        },
        FieldKind::Storage => {
            let Some(storage) = model.data.storages.iter().find(|s| s.name == value) else { return String::new() };
            let failed = if storage.last_test_error.is_some() { " · ✗ its last test failed" } else { "" };
            match model.free_space.get(value) {
                Some(Some(free)) => format!("{} · {} free{failed}", escape(&storage.place), bytes(*free)),
                Some(None) | None => format!("{}{failed}", escape(&storage.place)),
            }
        }
        _ => String::new(),
    }
}
