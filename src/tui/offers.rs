//! What the lists of rows offer. It is read from the model each time, so that an answer that comes late fills them.

use std::collections::BTreeMap;

use chrono_tz::TZ_VARIANTS;
use tui_input::Input;

use super::form::{ADD, Form, Offers, Purpose, split};
use super::forms::{self, backup_model};
use super::list::Filter;
use super::model::{Load, Model};
use super::msg::Effect;
use super::picker::{Entry, Picker};
use super::reach::ServiceLook;
use crate::domain::backup::Backup;
use crate::domain::namespace::{Namespace, Pattern};
use crate::domain::text::{bytes, counted, escape};

/// The list of a row, with what the row holds selected or marked.
pub fn open(model: &Model, form: &Form, key: &str) -> Option<Picker> {
    let row = form.row(key)?;
    let offers = row.offers()?;
    let marked = if offers == Offers::Namespaces { split(row.value()) } else { Vec::new() };
    let mut picker = Picker {
        key: row.field.key,
        title: row.field.label,
        offers,
        input: Input::default(),
        selected: 0,
        marked,
        has_marked: false,
    };
    let value = row.value().trim().to_owned();
    if let Ok(entries) = entries(&picker, model, form) {
        picker.selected = entries.iter().position(|e| e.value == value).unwrap_or(0);
    }
    Some(picker)
}

/// What has to be asked before there is something to choose from.
pub fn asks(picker: &Picker, model: &Model, form: &Form) -> Option<Effect> {
    if picker.offers != Offers::Namespaces {
        return None;
    }
    match held_by(model, form) {
        Held::Server(service) if !matches!(model.namespaces.get(&service), Some(Load::Waiting)) => {
            Some(Effect::Namespaces(service))
        }
        Held::Backup(name) if !matches!(model.manifests.get(&name), Some(Load::Ready(_) | Load::Waiting)) => {
            Some(Effect::Manifest(name))
        }
        _ => None,
    }
}

/// The entries that the filter lets through.
///
/// Errors: why there is nothing to choose from.
pub fn entries(picker: &Picker, model: &Model, form: &Form) -> Result<Vec<Entry>, String> {
    let filter = Filter { input: picker.input.clone() };
    let mut entries = match picker.offers {
        Offers::Services => services(model),
        Offers::Storages => storages(model),
        Offers::Backups => backups(model, form),
        Offers::Zones => zones(model),
        Offers::Namespaces => tree(model, form)?,
    };
    entries.retain(|e| filter.lets_through([e.text.as_str(), e.value.as_str()]));
    if forms::may_add(form, picker.key) && !model.look.read_only {
        let what = if picker.offers == Offers::Storages { "storage" } else { "service" };
        entries.push(Entry { text: format!("+ add a {what}"), ..Entry::new(ADD, "") });
    }
    Ok(entries)
}

fn services(model: &Model) -> Vec<Entry> {
    let note = |name: &str| match model.service_look(name) {
        ServiceLook::Answers => "✓ answers".to_owned(),
        ServiceLook::Wrong(why) => format!("✗ {why}"),
        ServiceLook::Lost => "✗ unreachable".to_owned(),
        ServiceLook::Refuses => "✗ refuses".to_owned(),
        ServiceLook::Asking | ServiceLook::NotAsked => String::new(),
    };
    model.data.services.iter().map(|s| Entry::new(s.name.as_str(), note(&s.name))).collect()
}

fn storages(model: &Model) -> Vec<Entry> {
    let entry = |s: &crate::client::StorageView| {
        let failed = if s.last_test_error.is_some() { " · ✗ its last test failed" } else { "" };
        Entry::new(s.name.as_str(), format!("{} · {} held{failed}", escape(&s.place), bytes(s.bytes)))
    };
    model.data.storages.iter().map(entry).collect()
}

fn backups(model: &Model, form: &Form) -> Vec<Entry> {
    let Some(present) = model.backup(form.text(forms::BACKUP)) else { return Vec::new() };
    let entry = |b: &Backup| {
        let at = b.consistent_at.unwrap_or(b.started_at).with_timezone(&model.zone).format("%d %b %Y %H:%M");
        let size = b.size_bytes.map_or_else(String::new, |size| format!(" · {}", bytes(size)));
        Entry::new(b.name.as_str(), format!("{at}{size}"))
    };
    model.data.backups.iter().filter(|b| forms::is_alike(present, b)).map(entry).collect()
}

fn zones(model: &Model) -> Vec<Entry> {
    let at = |zone: chrono_tz::Tz| model.now.with_timezone(&zone).format("%H:%M  %:z").to_string();
    let first = [("local", model.local_zone), ("UTC", chrono_tz::UTC)];
    let named = TZ_VARIANTS.iter().filter(|z| z.name() != "UTC").map(|zone| Entry::new(zone.name(), at(*zone)));
    first.into_iter().map(|(name, zone)| Entry::new(name, at(zone))).chain(named).collect()
}

/// Where the namespaces are that can be chosen from.
enum Held {
    Server(String),
    Backup(String),
    Nowhere(&'static str),
}

fn held_by(model: &Model, form: &Form) -> Held {
    if matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_)) {
        let service = form.text("service");
        let known = model.data.services.iter().any(|s| s.name == service);
        return if known { Held::Server(service.to_owned()) } else { Held::Nowhere("pick a service first") };
    }
    if forms::is_to_a_moment(form) {
        let pane = form.moment.as_ref();
        let base = pane.and_then(|pane| pane.base(model.pitr(&pane.service)?));
        return base.map_or(Held::Nowhere("no moment can be restored yet"), |b| Held::Backup(b.backup.clone()));
    }
    Held::Backup(form.text(forms::BACKUP).to_owned())
}

/// Databases with their collections and sizes.
fn tree(model: &Model, form: &Form) -> Result<Vec<Entry>, String> {
    const WAIT: &str = "one moment";
    let found: Vec<(&Namespace, Option<u64>, Option<u64>)> = match held_by(model, form) {
        Held::Nowhere(why) => return Err(why.to_owned()),
        Held::Server(service) => match model.namespaces.get(&service) {
            Some(Load::Ready(found)) => found.iter().map(|n| (&n.namespace, n.documents, n.bytes)).collect(),
            Some(Load::Failed(problem)) => return Err(problem.message.clone()),
            Some(Load::Waiting) | None => return Err(WAIT.to_owned()),
        },
        Held::Backup(name) => match model.manifests.get(&name) {
            Some(Load::Ready(held)) => held.namespaces.iter().map(|n| (&n.namespace, n.documents, n.bytes)).collect(),
            Some(Load::Failed(problem)) => return Err(problem.message.clone()),
            Some(Load::Waiting) | None => return Err(WAIT.to_owned()),
        },
    };
    if found.is_empty() {
        let physical = form.row("model").is_some() && !backup_model(form).counts_documents();
        return Err(if physical { "a physical backup holds all files" } else { "there is no collection" }.to_owned());
    }
    let mut databases: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for (namespace, documents, size) in found {
        let value = format!("{}.{}", pattern(&namespace.db), pattern(&namespace.collection));
        let documents = documents.map_or_else(String::new, |n| counted(n, "document"));
        let note = size.map_or_else(|| documents.clone(), |size| format!("{documents}  {:>9}", bytes(size)));
        let entry = Entry { text: escape(&namespace.collection), is_below: true, ..Entry::new(value, note) };
        databases.entry(&namespace.db).or_default().push(sound(entry));
        *sizes.entry(&namespace.db).or_default() += size.unwrap_or(0);
    }
    let mut entries = Vec::new();
    for (db, mut below) in databases {
        let size = bytes(sizes.get(db).copied().unwrap_or(0));
        let note = format!("{}  {size:>9}", counted(below.len() as u64, "collection"));
        entries.push(sound(Entry { text: escape(db), ..Entry::new(pattern(db), note) }));
        below.sort_by(|a, b| a.text.cmp(&b.text));
        entries.append(&mut below);
    }
    Ok(entries)
}

/// A name as a pattern that means only itself.
fn pattern(name: &str) -> String {
    name.replace('\\', "\\\\").replace('*', "\\*")
}

/// Names with a comma cannot be told from two names in a row of a form.
fn sound(mut entry: Entry) -> Entry {
    let odd = entry.value.contains(',') || entry.value.trim() != entry.value || entry.value.parse::<Pattern>().is_err();
    if odd {
        entry.off = Some("its name cannot be written in a list: use the command line".to_owned());
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_pattern_that_means_only_itself() {
        for name in ["orders", "a*b", "a\\b", "a\\*", "x.y"] {
            let text = format!("shop.{}", pattern(name));
            let made: Pattern = text.parse().unwrap();
            assert!(made.matches(&Namespace::new("shop", name)), "{name}");
            for other in ["aXb", "orders2", "ab", "a"] {
                assert!(!made.matches(&Namespace::new("shop", other)), "{name} is not {other}");
            }
        }
    }
}
