//! `mongokeep pitr`: what can be recovered, second by second.

use clap::{Arg, ArgMatches, Command};

use super::args::{group, one};
use super::context::Context;
use super::output::Out;
use crate::domain::pitr::{MarkKind, Status};
use crate::domain::text::{bytes, counted, duration, escape};
use crate::error::Result;

pub fn command() -> Command {
    group("pitr", "Recovery to any second").subcommand(
        Command::new("status")
            .about("Show what can be restored, what is missing and why, and how far behind recording is")
            .arg(Arg::new("service").long("service").value_name("SERVICE").help("only this service")),
    )
}

pub fn run_pitr(context: &Context, matches: &ArgMatches) -> Result<u8> {
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
    for line in lines(out, status) {
        text.push_str(&line);
        text.push('\n');
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
        status.ranges.iter().map(|r| format!("{} to {}", out.exact(r.from), out.exact(r.to))).collect();
    if ranges.is_empty() { line(status) } else { format!("{}; {}", ranges.join(", "), line(status)) }
}

/// Columns of the first word of a line.
const WHAT: usize = 15;

/// How the recorder does, in a line.
pub fn line(status: &Status) -> String {
    let recording = match (status.running, status.schedules.is_empty()) {
        (true, _) if status.error.is_some() => "recording, but the changes cannot be stored",
        (true, _) => "recording",
        (false, true) => "not recording: no point-in-time schedule is on",
        (false, false) if status.beginning => "about to begin recording",
        (false, false) => "NOT recording",
    };
    let mut parts = vec![recording.to_owned()];
    if let Some(lag) = status.lag_seconds {
        parts.push(format!("lag {}", duration(lag)));
    }
    if let Some(archive) = status.archive.as_ref().filter(|archive| archive.is_by_engine()) {
        parts.push(format!("by its engine, in {}", archive.storage));
    } else if let Some(archive) = &status.archive {
        let slices = counted(status.slices, "slice");
        parts.push(format!("{slices} ({}) in {}", bytes(status.size_bytes), archive.storage));
    }
    if status.ranges.is_empty() {
        parts.push("nothing can be restored to a moment yet".to_owned());
    }
    parts.join(", ")
}

/// What can be restored, what is missing and what happened, in the order of time. Times as `--time` takes them.
fn lines(out: &Out, status: &Status) -> Vec<String> {
    let span = |what: &str, from, to, note: &str| {
        format!(
            "{what:<WHAT$}{} to {}{}{note}",
            out.exact(from),
            out.exact(to),
            if note.is_empty() { "" } else { "  " }
        )
    };
    let mut rows = Vec::new();
    for range in &status.ranges {
        let held = |ts| range.from_ts <= ts && ts <= range.to_ts;
        let bases = status.bases.iter().filter(|b| held(b.consistent_at_ts)).count();
        let note = if bases == 1 { "1 base".to_owned() } else { format!("{bases} bases") };
        rows.push((range.from_ts, vec![span("any second", range.from, range.to, &note)]));
    }
    for gap in &status.gaps {
        let why = format!("{:WHAT$}{}", "", escape(&gap.reason));
        rows.push((gap.from_ts, vec![span("GAP", gap.from, gap.to, ""), why]));
    }
    for mark in &status.marks {
        let what = match mark.kind {
            MarkKind::RestoreBegan => "restore began",
            MarkKind::RestoreEnded => "restore ended",
        };
        let at = out.exact(mark.ts.to_datetime());
        rows.push((mark.ts, vec![format!("{what:<WHAT$}{at}  {}", escape(&mark.text))]));
    }
    rows.sort_by_key(|(ts, _)| *ts);
    rows.into_iter().flat_map(|(_, lines)| lines).collect()
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
            beginning: false,
            error: None,
            hint: None,
            schedules: vec!["p".into()],
            archive: None,
            bases: vec![Base {
                backup: "b".into(),
                consistent_at_ts: ts(10),
                model: crate::domain::backup::Model::Logical,
            }],
            waiting_base: None,
            marks: vec![Mark { ts: ts(35), kind: MarkKind::RestoreBegan, text: "b into a".into() }],
            slices: 2,
            size_bytes: 100,
        };
        assert_eq!(line(&status), "recording, lag 12 min");
        assert_eq!(
            lines(&Out::silent(), &status),
            [
                "any second     1970-01-01T00:00:10+00:00 to 1970-01-01T00:00:19+00:00  1 base",
                "GAP            1970-01-01T00:00:20+00:00 to 1970-01-01T00:00:30+00:00",
                "               rolled\\u{1b} over",
                "any second     1970-01-01T00:00:31+00:00 to 1970-01-01T00:00:39+00:00  0 bases",
                "restore began  1970-01-01T00:00:35+00:00  b into a",
            ]
        );
        status.ranges.clear();
        status.running = false;
        assert_eq!(line(&status), "NOT recording, lag 12 min, nothing can be restored to a moment yet");
        status.beginning = true;
        assert_eq!(line(&status), "about to begin recording, lag 12 min, nothing can be restored to a moment yet");
        status.schedules.clear();
        assert!(line(&status).starts_with("not recording: no point-in-time schedule is on"));
    }
}
