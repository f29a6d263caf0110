//! What the form of a schedule says about its runs: when the next ones are, what they collide with, what would be free.

use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;
use ratatui::style::Style;
use ratatui::text::Line;
use unicode_width::UnicodeWidthStr;

use super::text::fit;
use super::timeline::what_is_wrong;
use crate::domain::retention::Retention;
use crate::domain::text::{count, escape};
use crate::domain::timeline::PlannedRun;
use crate::tui::form::Form;
use crate::tui::model::{Load, Model};
use crate::tui::preview::Preview;

/// What the line means, or what is wrong with it so far.
pub fn line_words(model: &Model, preview: &Preview) -> (String, Style) {
    match &preview.words {
        Ok(words) => (words.clone(), model.theme.dim),
        Err(why) => (escape(why), model.theme.warn),
    }
}

/// `next  22 Nov 02:00 · 23 Nov 02:00 · 24 Nov 02:00`, in the zone of the schedule; of the line before, while the one that
/// is typed makes no sense yet.
pub fn next_line(model: &Model, preview: &Preview, width: usize) -> (String, Style) {
    let theme = &model.theme;
    let Some(zone) = preview.zone else { return (String::new(), theme.dim) };
    if preview.words.is_err() {
        let text = times(model, "before", &preview.before, zone, width);
        return (if preview.before.is_empty() { String::new() } else { text }, theme.dim);
    }
    if preview.next.is_empty() {
        return ("✗ this line never fires: no date matches it before the year 2100".into(), theme.error);
    }
    (times(model, "next", &preview.next, zone, width), theme.accent)
}

fn times(model: &Model, label: &str, runs: &[DateTime<Utc>], zone: Tz, width: usize) -> String {
    let year = model.now.with_timezone(&zone).year();
    let words = |this_year: &str, another: &str| {
        let local = runs.iter().map(|at| at.with_timezone(&zone));
        let times = local.map(|at| at.format(if at.year() == year { this_year } else { another }).to_string());
        format!("{label}  {}", times.collect::<Vec<_>>().join(" · "))
    };
    let long = words("%a %d %b %H:%M", "%a %d %b %Y %H:%M");
    if long.width() <= width { long } else { words("%d %b %H:%M", "%d %b %Y") }
}

/// `Every day at 02:00, Europe/Paris,`: the beginning of the sentence.
pub fn when_words(preview: &Preview) -> Option<String> {
    let words = preview.words.as_ref().ok()?;
    let mut letters = words.chars();
    let first: String = letters.next()?.to_uppercase().collect();
    Some(format!("{first}{}, {},", letters.as_str(), preview.zone?.name()))
}

/// `the last 7 backups stay`: the end of the sentence.
pub fn kept_words(form: &Form) -> String {
    let number = |key: &str| form.text(key).parse::<u32>().unwrap_or(0);
    let retention = Retention {
        count: number("retention"),
        keep_daily: number("keep_daily"),
        keep_weekly: number("keep_weekly"),
        keep_monthly: number("keep_monthly"),
        keep_yearly: number("keep_yearly"),
        keep_within: crate::domain::retry::parse_duration(form.text("keep_within")).map_or(0, |d| d.as_secs()),
    };
    match retention {
        r if r.keeps_all() => "all of its backups stay".into(),
        r if r == (Retention { count: r.count, ..Retention::default() }) => match r.count {
            1 => "only its last backup stays".into(),
            n => format!("its last {n} backups stay"),
        },
        r => format!("kept are {}", super::schedules::rules(&r)),
    }
}

/// What its runs collide with, and what would be free.
pub fn warnings(model: &Model, preview: &Preview, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    // What was found for the words before stays, as that.
    let of = |style: Style| if preview.is_old { theme.dim } else { style };
    if let Some(Load::Failed(problem)) = &preview.runs {
        return vec![Line::styled(fit(&format!("! {}", model.say(&problem.message)), width), theme.warn)];
    }
    let wrong: Vec<&PlannedRun> =
        preview.own_runs().filter(|r| !r.overlaps.is_empty() || r.in_production_hours).collect();
    let Some(first) = wrong.first() else {
        // One that never runs meets nothing, and is not good for that.
        let runs = preview.words.is_ok() && !preview.next.is_empty();
        let looked = runs && matches!(preview.runs, Some(Load::Ready(_))) && preview.own_runs().next().is_some();
        let text = "✓ overlaps nothing, and lies outside of production hours";
        return if looked { vec![Line::styled(fit(text, width), of(theme.ok))] } else { Vec::new() };
    };
    let more = match wrong.len() {
        1 => String::new(),
        n => format!(" ({} such runs)", count(n as u64)),
    };
    // Times of a schedule are times of its own zone, as in the line above.
    let at = first.at.with_timezone(&preview.zone.unwrap_or(model.zone)).format("%a %d %b %H:%M").to_string();
    let mut lines = vec![Line::styled(fit(&format!("! {}{more}", what_is_wrong(first, &at)), width), of(theme.warn))];
    if let Some(slot) = &preview.free {
        let text = format!("  free is {}: Ctrl-T takes that", slot.words);
        lines.push(Line::styled(fit(&text, width), of(theme.key)));
    }
    lines
}
