//! Plans as text, and the line that confirms one.
//!
//! Whatever is replaced or dropped is always named; only what stays as it is may be counted instead.

use chrono::{DateTime, SecondsFormat, Utc};

use super::context::Context;
use super::table::{Column, Table};
use crate::client::{DeletePlan, Removes};
use crate::domain::backup::Owner;
use crate::domain::command_line::quoted;
use crate::domain::pitr::PlannedReplay;
use crate::domain::restore::{CollectionKind, LeftOut, PlannedAction, PlannedFiles, RestorePlan};
use crate::domain::text::{bytes, count, counted, duration, escape};
use crate::error::{Error, ErrorKind};

/// So many collections that stay as they are are named.
const UNTOUCHED: usize = 20;

/// The plan was printed, and nobody said yes to it.
pub fn not_confirmed(typed: &[String], what: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("not confirmed, {what}")).hint(format!("to do it: {}", confirmed(typed)))
}

/// The command as typed, but for a moment that moves: `latest` becomes the position that the plan was made for.
pub fn settled(typed: &[String], plan: &RestorePlan) -> Vec<String> {
    let Some(replay) = &plan.point_in_time else { return typed.to_vec() };
    let mut words = typed.to_vec();
    let flags = typed.iter().position(|word| word == "--").unwrap_or(typed.len());
    for at in 0..flags {
        if words[at] == "--time=latest" {
            words[at] = format!("--time={}", replay.until);
        } else if words[at] == "latest" && at > 0 && words[at - 1] == "--time" {
            words[at] = replay.until.to_string();
        }
    }
    words
}

/// The command as typed, with `--yes`.
fn confirmed(typed: &[String]) -> String {
    let mut words = vec!["mongokeep".to_owned()];
    words.extend(typed.iter().map(|word| quoted(word)));
    // What stands behind `--` is no flag.
    let at = typed.iter().position(|word| word == "--").map_or(words.len(), |at| at + 1);
    words.insert(at, "--yes".to_owned());
    words.join(" ")
}

pub fn delete(plan: &DeletePlan) -> String {
    let DeletePlan { backup, storage, .. } = plan;
    let whose = plan.foreign.as_ref().map(Owner::whose);
    let what = match (plan.removes, &whose) {
        (Removes::RecordAndFiles, None) => {
            format!("delete {backup} and its files in {storage}; frees {}", bytes(plan.bytes))
        }
        (Removes::RecordAndFiles, Some(whose)) => format!(
            "delete {backup} and its files in {storage}, which were made by {whose}; frees {}",
            bytes(plan.bytes)
        ),
        (Removes::Record, None) => format!("delete the record of {backup}; its files stay in {storage}"),
        (Removes::Record, Some(whose)) => {
            format!(
                "delete the record of {backup}; the files of that name in {storage} stay, they were made by {whose}"
            )
        }
        (Removes::NothingYet, whose) => format!(
            "nothing is deleted without --foreign: {backup} in {storage} was made by {}",
            whose.as_deref().unwrap_or("another installation")
        ),
        (Removes::NothingAlone, _) => format!(
            "nothing is deleted: {backup} is an increment, and a chain of increments goes as a whole, with its base {}",
            plan.base.as_deref().unwrap_or_default()
        ),
        (Removes::Nothing, whose) => format!(
            "nothing is deleted: {backup} in {storage} has no manifest and may still be being written by {}",
            whose.as_deref().unwrap_or("another installation")
        ),
    };
    let mut text = format!("{}\n", escape(&what));
    for increment in &plan.increments {
        text.push_str(&format!("with it goes its increment {}\n", escape(increment)));
    }
    warnings(&mut text, &plan.warnings);
    text
}

fn warnings(text: &mut String, warnings: &[String]) {
    for warning in warnings {
        text.push_str(&format!("warning: {}\n", escape(warning)));
    }
}

pub fn restore(context: &Context, plan: &RestorePlan) -> String {
    let into = format!("into {}, MongoDB {}", escape(plan.target()), escape(&plan.target_version));
    let mut text = match &plan.point_in_time {
        Some(replay) => moment(context, replay, &into),
        None => {
            let at = plan.consistent_at_ts.map(|ts| format!(", consistent at {}", context.out.time(ts.to_datetime())));
            let (backup, of) = (escape(&plan.backup), escape(&plan.from_service));
            format!("restore {backup} (of {of}{}) {into}\n\n", at.unwrap_or_default())
        }
    };
    if let Some(first) = &plan.safety_backup {
        text.push_str(&format!(
            "first {} is backed up as {} in {}; nothing is restored if that fails\n\n",
            escape(&first.service),
            escape(&first.name),
            escape(&first.storage),
        ));
    }
    if let Some(files) = &plan.files {
        text.push_str(&of_files(files));
        warnings(&mut text, &plan.warnings);
        return text;
    }
    let table = table(plan);
    if !table.is_empty() {
        text.push_str(&context.out.table(&table));
        text.push('\n');
    }
    text.push_str(&summary(plan));
    warnings(&mut text, &plan.warnings);
    text
}

/// Each step of a restore of files, and what is left to a person.
fn of_files(files: &PlannedFiles) -> String {
    let mut text = String::new();
    if let Some(why) = &files.only_by_hand {
        text.push_str(&format!("mongokeep does not do this by itself: {}.\nBy hand:\n\n", escape(why)));
    }
    for (n, step) in files.steps.iter().enumerate() {
        text.push_str(&format!("{:>2}. {}\n", n + 1, escape(step)));
    }
    text.push('\n');
    if files.only_by_hand.is_none() {
        text.push_str(&format!("{} are free there, {} are needed. ", bytes(files.free_bytes), bytes(files.bytes)));
    }
    text.push_str(if files.only_by_hand.is_none() { "Afterwards:\n" } else { "To know:\n" });
    for line in &files.by_hand {
        text.push_str(&format!("  - {}\n", escape(line)));
    }
    if let (Some(old), None) = (&files.replaces, &files.only_by_hand) {
        let (dir, old) = (escape(&files.dir), escape(old));
        text.push_str(&format!("\nREPLACES the data in {dir} (kept in {old} until the restored server answers)\n"));
    }
    text
}

/// Where to, and how: the base, the slices, and about how long.
fn moment(context: &Context, replay: &PlannedReplay, into: &str) -> String {
    let utc = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let position = replay.until.within_second();
    let base_at = context.out.time(replay.base.consistent_at_ts.to_datetime());
    let slices = match replay.slices {
        0 if replay.archive.is_by_engine() => {
            format!("then the oplog that its engine recorded in {}", escape(&replay.archive.storage))
        }
        0 => "nothing of the recorded oplog is needed".to_owned(),
        n => {
            // Not every tool that records writes down how many there are.
            let entries = match replay.entries {
                0 => String::new(),
                1 => "1 entry at most, ".to_owned(),
                n => format!("{} entries at most, ", count(n)),
            };
            let (slices, bytes) = (counted(n, "slice"), bytes(replay.bytes));
            format!("then {slices} of the oplog ({entries}{bytes}) from {}", escape(&replay.archive.storage))
        }
    };
    format!(
        "restore {} as of {} ({}), {position}, {into}\nfrom base {} (consistent at {base_at}), {slices}; about {}\n\n",
        escape(&replay.service),
        utc(replay.until_at),
        context.out.time(replay.until_at),
        escape(&replay.base.backup),
        duration(replay.expected_seconds),
    )
}

/// What is lost first, then what is new, then what stays, then what is left out.
fn table(plan: &RestorePlan) -> Table {
    let mut table = Table::new([
        Column::new("ACTION"),
        Column::new("NAMESPACE"),
        Column::right(if plan.point_in_time.is_some() { "IN THE BASE" } else { "DOCUMENTS" }),
        Column::right("THERE NOW"),
        Column::long("NOTE"),
    ]);
    let mut planned: Vec<_> = plan.namespaces.iter().collect();
    planned.sort_by_key(|n| n.action == PlannedAction::Create);
    let replaced = planned.iter().filter(|n| n.action == PlannedAction::Replace).count();
    for (i, n) in planned.iter().enumerate() {
        if i == replaced {
            dropped(&mut table, plan);
        }
        let mut notes = Vec::new();
        if n.from != n.to {
            notes.push(format!("from {}", n.from));
        }
        match n.kind {
            CollectionKind::Collection => {}
            CollectionKind::Timeseries => notes.push("time series".into()),
            CollectionKind::View => notes.push("view".into()),
        }
        if n.uncounted {
            notes.push("documents not counted".into());
        } else if n.documents.is_none() {
            notes.push("all from the oplog".into());
        }
        table.row([
            if n.action == PlannedAction::Replace { "REPLACE".into() } else { "create".into() },
            n.to.to_string(),
            n.documents.filter(|_| n.kind != CollectionKind::View).map_or_else(String::new, count),
            n.replaces_documents.map_or_else(String::new, count),
            notes.join(", "),
        ]);
    }
    if replaced == planned.len() {
        dropped(&mut table, plan);
    }
    if plan.users_and_roles {
        let whose =
            if plan.users_of.is_empty() { "all".to_owned() } else { format!("of {}", plan.users_of.join(", ")) };
        table.row(["REPLACE".into(), "users and roles".into(), String::new(), String::new(), whose]);
    }
    for ns in plan.untouched.iter().take(UNTOUCHED) {
        table.row(["keep".into(), ns.to_string(), String::new(), String::new(), "stays as it is".into()]);
    }
    if let Some(more) = plan.untouched.len().checked_sub(UNTOUCHED).filter(|more| *more > 0) {
        table.row([
            "keep".into(),
            format!("{} more", count(more as u64)),
            String::new(),
            String::new(),
            "stay as they are".into(),
        ]);
    }
    let (not_asked_for, others): (Vec<&LeftOut>, Vec<&LeftOut>) =
        plan.left_out.iter().partition(|left| left.is_not_included());
    match not_asked_for.as_slice() {
        [] => {}
        [one] => leave_out(&mut table, one.what.clone(), one.why.clone()),
        many => leave_out(&mut table, counted(many.len() as u64, "collection"), many[0].why.clone()),
    }
    for left in others {
        leave_out(&mut table, left.what.clone(), left.why.clone());
    }
    table
}

fn leave_out(table: &mut Table, what: String, why: String) {
    table.row(["leave out".into(), what, String::new(), String::new(), why]);
}

fn dropped(table: &mut Table, plan: &RestorePlan) {
    for ns in &plan.dropped {
        table.row(["DROP".into(), ns.to_string(), String::new(), String::new(), "not in the backup (--exact)".into()]);
    }
}

fn summary(plan: &RestorePlan) -> String {
    let of = |action| plan.namespaces.iter().filter(move |n| n.action == action);
    let (replaced, created) = (of(PlannedAction::Replace).count(), of(PlannedAction::Create).count());
    let documents = plan.namespaces.iter().filter_map(|n| n.documents).fold(0, u64::saturating_add);
    let of_base = if plan.point_in_time.is_some() { " in the base" } else { "" };
    // PBM does not look at what is there.
    let is_known = of(PlannedAction::Replace).any(|n| n.replaces_documents.is_some());
    let lost = of(PlannedAction::Replace).filter_map(|n| n.replaces_documents).fold(0, u64::saturating_add);
    let mut parts = Vec::new();
    if !plan.namespaces.iter().any(|n| n.uncounted) {
        parts.push(format!("{}{of_base}", counted(documents, "document")));
    }
    parts.push(format!("creates {}", count(created as u64)));
    if replaced > 0 {
        let there = if is_known { format!(" ({} there now)", counted(lost, "document")) } else { String::new() };
        parts.push(format!("REPLACES {}{there}", count(replaced as u64)));
    }
    if !plan.dropped.is_empty() {
        parts.push(format!("DROPS {}", count(plan.dropped.len() as u64)));
    }
    if !plan.untouched.is_empty() {
        parts.push(format!("keeps {}", count(plan.untouched.len() as u64)));
    }
    if !plan.left_out.is_empty() {
        parts.push(format!("leaves {} out", count(plan.left_out.len() as u64)));
    }
    parts.join(", ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::namespace::Namespace;
    use crate::domain::pitr::{Archive, Base};
    use crate::domain::restore::{LeftOut, PlannedNamespace};
    use crate::domain::timestamp::Timestamp;

    fn plan() -> RestorePlan {
        let planned = |from: &str, to: &str, action, replaces| PlannedNamespace {
            from: Namespace::parse(from).unwrap(),
            to: Namespace::parse(to).unwrap(),
            kind: CollectionKind::Collection,
            action,
            documents: Some(1200),
            uncounted: false,
            replaces_documents: replaces,
        };
        RestorePlan {
            files: None,
            backup: "nightly".into(),
            from_service: "a".into(),
            to_service: "b".into(),
            consistent_at_ts: None,
            target_version: "6.0.5".into(),
            target_fcv: "6.0".into(),
            namespaces: vec![
                planned("shop.new", "shop.new", PlannedAction::Create, None),
                planned("old.x", "shop.\u{1b}]52;c;eA==\u{7}", PlannedAction::Replace, Some(7)),
            ],
            dropped: vec![Namespace::new("shop", "stray")],
            untouched: (0..25).map(|i| Namespace::new("shop", format!("k{i}"))).collect(),
            left_out: vec![LeftOut { what: "shop.big".into(), why: "not included".into() }],
            users_and_roles: false,
            users_of: vec![],
            safety_backup: None,
            point_in_time: None,
            warnings: vec!["newer\u{9b}".into()],
        }
    }

    #[test]
    fn what_is_lost_stands_first_and_names_from_servers_are_escaped() {
        let text = table(&plan()).render(None) + &summary(&plan());
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} is not in\n{text}"));
        assert!(at("REPLACE ") < at("DROP ") && at("DROP ") < at("create ") && at("create ") < at("keep "));
        assert!(text.contains("shop.\\u{1b}]52;c;eA==\\u{7}") && text.contains("from old.x"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("k19 ") && !text.contains("k20") && text.contains("5 more"), "{text}");
        assert!(text.contains("REPLACES 1 (7 documents there now), DROPS 1, keeps 25, leaves 1 out"), "{text}");
    }

    #[test]
    fn nothing_but_drops_is_still_shown() {
        let only = RestorePlan { namespaces: vec![], untouched: vec![], ..plan() };
        assert!(table(&only).render(None).contains("shop.stray"));
    }

    #[test]
    fn the_confirming_line_can_be_pasted() {
        let typed = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let line = confirmed(&typed(&["restore", "b", "--to", "s", "--include", "a.*", "--home", "/it's"]));
        assert_eq!(line, "mongokeep restore b --to s --include 'a.*' --home '/it'\\''s' --yes");
        assert_eq!(confirmed(&typed(&["restore", "--to", "s", "--", "b"])), "mongokeep restore --to s --yes -- b");
    }

    #[test]
    fn what_is_confirmed_does_not_move() {
        let typed = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let replay = PlannedReplay {
            service: "s".into(),
            until: Timestamp::new(7, 2),
            until_at: DateTime::UNIX_EPOCH,
            base: Base {
                backup: "nightly".into(),
                consistent_at_ts: Timestamp::new(5, 1),
                model: crate::domain::backup::Model::Logical,
            },
            archive: Archive {
                storage: "disk".into(),
                folder: "f".into(),
                replica_set: "rs".into(),
                replica_set_id: "0".repeat(24),
            },
            slices: 1,
            entries: 3,
            bytes: 100,
            expected_seconds: 1,
        };
        let mut grown = plan();
        grown.namespaces[0].documents = None;
        let moment = RestorePlan { point_in_time: Some(replay), ..grown };
        for words in [&["restore", "--time", "latest"][..], &["restore", "--time=latest"]] {
            let line = confirmed(&settled(&typed(words), &moment));
            assert_eq!(line.replace('=', " "), "mongokeep restore --time 7,2 --yes");
        }
        let other = typed(&["restore", "--time", "2026-11-21T15:02:18Z", "--to", "latest"]);
        assert_eq!(settled(&other, &moment), other);
        assert_eq!(settled(&typed(&["restore", "--time", "latest"]), &plan())[2], "latest");
        let text = table(&moment).render(None) + &summary(&moment);
        assert!(text.contains("IN THE BASE") && text.contains("1,200 documents in the base"), "{text}");
        assert!(text.contains("all from the oplog"), "{text}");
    }

    #[test]
    fn deleting_says_what_becomes_free_and_whose_it_is() {
        let plan = DeletePlan {
            backup: "n".into(),
            storage: "t".into(),
            keep_files: false,
            bytes: 1_400_000,
            foreign: None,
            removes: Removes::RecordAndFiles,
            increments: Vec::new(),
            base: None,
            warnings: vec!["it is the only good backup of a".into()],
        };
        let base = DeletePlan { increments: vec!["n2".into(), "n3".into()], ..plan.clone() };
        assert!(delete(&base).contains("with it goes its increment n2\nwith it goes its increment n3\n"));
        let increment = DeletePlan { removes: Removes::NothingAlone, base: Some("m".into()), ..plan.clone() };
        assert!(
            delete(&increment).contains("nothing is deleted: n is an increment")
                && delete(&increment).contains("base m")
        );
        let text = delete(&plan);
        assert!(text.contains("frees 1.4 MB") && text.contains("warning: it is the only"), "{text}");
        let record = DeletePlan { keep_files: true, removes: Removes::Record, ..plan.clone() };
        assert!(delete(&record).contains("files stay"));
        let owner = Owner {
            attempt_id: "a1".into(),
            home_id: Some("0123456789abcdef".into()),
            host: Some("db7\u{1b}".into()),
            service: "src".into(),
            tool: None,
            started_at: Some(DateTime::UNIX_EPOCH),
            complete: true,
            size_bytes: Some(7),
        };
        for removes in [Removes::RecordAndFiles, Removes::Record, Removes::NothingYet, Removes::Nothing] {
            let text = delete(&DeletePlan { foreign: Some(owner.clone()), removes, ..plan.clone() });
            for part in ["another installation", "service src", "1970-01-01 00:00:00 UTC", "db7\\u{1b}", "01234567"] {
                assert!(text.contains(part), "{removes:?}: {part} is not in {text}");
            }
            assert_eq!(
                text.starts_with("nothing"),
                matches!(removes, Removes::NothingYet | Removes::Nothing),
                "{text}"
            );
        }
    }
}
