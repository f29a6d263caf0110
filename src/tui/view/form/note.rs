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
            beside(&escape(&storage.place), failed, &free, room)
        }
        _ => String::new(),
    }
}

/// A failed test counts most, then how much is free. A number that is cut is another number: it is there whole or not at all,
/// and the place makes room for both, down to what still says something.
fn beside(place: &str, failed: &str, free: &str, room: usize) -> String {
    let free = if failed.width() + free.width() <= room + 3 { free } else { "" };
    let left = room.saturating_sub(failed.width() + free.width());
    let place = if left >= PLACE.min(place.width()) { fit(place, left) } else { String::new() };
    format!("{place}{failed}{free}").trim_start_matches(" · ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_storage_is_whole_or_left_out() {
        let (failed, free) = (" · ✗ its last test failed", " · 70.5 GB free");
        let of = |room| beside("s3://acme-backups/prod", failed, free, room);
        assert_eq!(of(80), "s3://acme-backups/prod · ✗ its last test failed · 70.5 GB free");
        assert_eq!(of(54), "s3://acme-bac… · ✗ its last test failed · 70.5 GB free");
        assert_eq!(of(45), "✗ its last test failed · 70.5 GB free");
        assert_eq!(of(30), "✗ its last test failed");
        assert_eq!(beside("s3://acme-backups/prod", "", free, 27), "s3://acme-b… · 70.5 GB free");
        assert_eq!(beside("s3://acme-backups/prod", "", free, 20), "70.5 GB free");
        assert_eq!(beside("/b", "", free, 17), "/b · 70.5 GB free");
        for room in 0..80 {
            let text = of(room);
            assert!(text.width() <= room || text == failed.trim_start_matches(" · "), "{room}: {text}");
        }
    }
}
