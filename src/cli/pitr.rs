//! `mongokeep pitr`: what can be recovered, second by second.

use clap::{Arg, ArgMatches, Command};

use super::args::one;
use super::context::Context;
use super::output::Out;
use super::table::{Column, Table};
use super::tree::group;
use crate::domain::pitr::{MarkKind, Status};
use crate::domain::text::{bytes, count, duration, escape};
use crate::error::Result;

pub fn command() -> Command {
    group("pitr", "Recovery to any second").subcommand(
        Command::new("status")
            .about("Show what can be restored, what is missing and why, and how far behind recording is")
            .arg(Arg::new("service").long("service").value_name("SERVICE").help("only this service")),
    )
}

pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let Some((_, sub)) = matches.subcommand() else { return Ok(2) };
    let all = context.client()?.pitr_status(one(sub, "service").as_deref())?;
    if all.is_empty() && !context.out.json {
        context.out.note(
            "no oplog is recorded; begin with: mongokeep schedule add NAME --service SERVICE --storage STORAGE \
             --type pitr --cron \"0 2 * * *\"",
        );
        return Ok(0);
    }
    context.out.result(&all, || all.iter().map(|s| text(&context.out, s)).collect::<Vec<_>>().join("\n"))?;
    Ok(0)
}

/// One service: a line, then what can be restored, what is missing and what happened in the order of time.
fn text(out: &Out, status: &Status) -> String {
    let mut text = format!("{}: {}\n", escape(&status.service), escape(&line(status)));
    let table = table(out, status);
    if !table.is_empty() {
        text.push_str(&out.table(&table));
    }
    for (word, said) in [("error", &status.error), ("hint", &status.hint)] {
        if let Some(said) = said {
            text.push_str(&format!("{word}: {}\n", escape(said)));
        }
    }
    text
}

/// What can be restored and how the recorder does, in a line.
pub fn recoverable(out: &Out, status: &Status) -> String {
    let ranges: Vec<String> =
        status.ranges.iter().map(|r| format!("{} to {}", out.second(r.from), out.second(r.to))).collect();
    if ranges.is_empty() { line(status) } else { format!("{}; {}", ranges.join(", "), line(status)) }
}

/// How the recorder does, in a line.
pub fn line(status: &Status) -> String {
    let recording = match (status.running, status.schedules.is_empty()) {
        (true, _) => "recording",
        (false, true) => "not recording: no point-in-time schedule is on",
        (false, false) => "NOT recording",
    };
    let mut parts = vec![recording.to_owned()];
    if let Some(lag) = status.lag_seconds {
        parts.push(format!("lag {}", duration(lag)));
    }
    if let Some(archive) = &status.archive {
        let slices = if status.slices == 1 { "1 slice".to_owned() } else { format!("{} slices", count(status.slices)) };
        parts.push(format!("{slices} ({}) in {}", bytes(status.size_bytes), archive.storage));
    }
    if status.ranges.is_empty() {
        parts.push("nothing can be restored to a moment yet".to_owned());
    }
    parts.join(", ")
}

fn table(out: &Out, status: &Status) -> Table {
    let mut rows = Vec::new();
    for range in &status.ranges {
        let held = |ts| range.from_ts <= ts && ts <= range.to_ts;
        let bases = status.bases.iter().filter(|b| held(b.consistent_at_ts)).count();
        let note = if bases == 1 { "1 base".to_owned() } else { format!("{bases} bases") };
        let (from, to) = (out.second(range.from), out.second(range.to));
        rows.push((range.from_ts, ["any second".to_owned(), from, to, note]));
    }
    for gap in &status.gaps {
        let (from, to) = (out.second(gap.from), out.second(gap.to));
        rows.push((gap.from_ts, ["GAP".to_owned(), from, to, gap.reason.clone()]));
    }
    for mark in &status.marks {
        let what = match mark.kind {
            MarkKind::RestoreBegan => "restore began",
            MarkKind::RestoreEnded => "restore ended",
        };
        let at = out.second(mark.ts.to_datetime());
        rows.push((mark.ts, [what.to_owned(), at, String::new(), mark.text.clone()]));
    }
    rows.sort_by_key(|(ts, _)| *ts);
    let mut table = Table::new([Column::new("WHAT"), Column::new("FROM"), Column::new("TO"), Column::long("NOTE")]);
    for (_, row) in rows {
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pitr::{Base, Gap, Mark, RecoverableRange, ShownGap};
    use crate::domain::timestamp::Timestamp;

    #[test]
    fn the_line_says_what_is_and_what_is_not() {
        let ts = |t| Timestamp::new(t, 1);
        let range = |from: u32, to: u32| RecoverableRange {
            from: ts(from).to_datetime(),
            to: ts(to - 1).to_datetime(),
            from_ts: ts(from),
            to_ts: ts(to),
        };
        let gap = Gap { from_ts: ts(20), to_ts: ts(30), reason: "rolled\u{1b} over".into() };
        let mut status = Status {
            service: "a".into(),
            ranges: vec![range(10, 20), range(31, 40)],
            gaps: vec![ShownGap::from(&gap)],
            lag_seconds: Some(720),
            running: true,
            error: None,
            hint: None,
            schedules: vec!["p".into()],
            archive: None,
            bases: vec![Base { backup: "b".into(), consistent_at_ts: ts(10) }],
            waiting_base: None,
            marks: vec![Mark { ts: ts(35), kind: MarkKind::RestoreBegan, text: "b into a".into() }],
            slices: 2,
            size_bytes: 100,
        };
        assert_eq!(line(&status), "recording, lag 12 min");
        let rows: Vec<String> = table_lines(&status);
        let first: Vec<&str> = rows.iter().map(|row| row.split("  ").next().unwrap_or_default()).collect();
        assert_eq!(first, ["WHAT", "any second", "GAP", "any second", "restore began"]);
        assert!(rows[2].ends_with("rolled\\u{1b} over"), "{rows:?}");
        status.ranges.clear();
        status.running = false;
        assert_eq!(line(&status), "NOT recording, lag 12 min, nothing can be restored to a moment yet");
        status.schedules.clear();
        assert!(line(&status).starts_with("not recording: no point-in-time schedule is on"));
    }

    fn table_lines(status: &Status) -> Vec<String> {
        table(&Out::silent(), status).render(None).lines().map(str::to_owned).collect()
    }
}
