//! What is known about the service or storage that a row names.

use unicode_width::UnicodeWidthStr;

use super::super::text::{fit, spinner};
use crate::domain::field::FieldKind;
use crate::domain::text::{bytes, escape};
use crate::tui::form::Row;
use crate::tui::model::{Load, Model};

/// Columns of a place that still say something.
const PLACE: usize = 12;

/// Made for `room` columns; empty where nothing is known, or not yet.
pub(super) fn words(model: &Model, row: &Row, room: usize) -> String {
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
            let free = match model.free_space.get(value) {
                Some(Some(free)) => format!(" · {} free", bytes(*free)),
                Some(None) | None => String::new(),
            };
            let failed = if storage.last_test_error.is_some() { " · ✗ its last test failed" } else { "" };
            // A number that is cut is another number: the place makes room for it.
            let place = fit(&escape(&storage.place), room.saturating_sub(free.width() + failed.width()).max(PLACE));
            format!("{place}{free}{failed}")
        }
        _ => String::new(),
    }
}
