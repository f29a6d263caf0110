//! Everything known about one backup, job, storage or service, as lines. Shown as a page, or beside the list.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::lists::{model_word, type_words};
use super::text::{ago, backup_state, bar, countdown, job_state, progress_words, when, when_exactly, wrap};
use crate::client::{Contents, HeldFiles};
use crate::domain::backup::{Backup, BackupState};
use crate::domain::chain;
use crate::domain::encryption::words_of;
use crate::domain::field::FieldKind;
use crate::domain::job::{Job, JobState, LogLevel};
use crate::domain::pitr::Status;
use crate::domain::retry::RetryMode;
use crate::domain::service::EngineKind;
use crate::domain::text::{bytes, count, counted, duration, escape, moments};
use crate::tui::action::Action;
use crate::tui::model::{Load, Model, Target};

/// Beside the list, so many lines at the top stay when the rest must be cut.
pub const LEADING: usize = 14;
/// How many collections of a manifest are listed.
const COLLECTIONS: usize = 2_000;

/// The lines about `target`, made for `width` columns.
pub fn lines(model: &Model, target: &Target, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    if width < TWO_COLUMNS {
        return page(model, target, width).lines;
    }
    let half = (width - GUTTER.width()) / 2;
    let page = page(model, target, half);
    beside(model, page, half)
}

/// From this width on, a page has two columns.
const TWO_COLUMNS: usize = 150;
/// What stands between them.
const GUTTER: &str = "  │  ";

/// The lines of a page in two columns, divided where a section begins, so that they are as even as possible.
fn beside(model: &Model, page: Page, half: usize) -> Vec<Line<'static>> {
    let total = page.lines.len();
    let Some(at) = page.sections.iter().copied().min_by_key(|at| (*at).max(total - at)) else { return page.lines };
    let mut left = page.lines;
    // The blank line in front of a heading is of no use at the top.
    let right: Vec<Line> = left.split_off(at).into_iter().skip(1).collect();
    let height = left.len().max(right.len());
    left.resize(height, Line::raw(""));
    let mut right = right.into_iter();
    for line in &mut left {
        let mut spans = styled_spans(std::mem::take(line));
        let used: usize = spans.iter().map(|s| s.content.width()).sum();
        spans.push(Span::raw(" ".repeat(half.saturating_sub(used))));
        spans.push(Span::styled(GUTTER, model.theme.border));
        spans.extend(right.next().map(styled_spans).unwrap_or_default());
        *line = Line::from(spans);
    }
    left
}

/// The spans of a line, each with the style that the line gives it.
fn styled_spans(line: Line<'static>) -> Vec<Span<'static>> {
    let style = line.style;
    line.spans.into_iter().map(|span| Span { style: style.patch(span.style), ..span }).collect()
}

fn page<'a>(model: &'a Model, target: &Target, width: usize) -> Page<'a> {
    let mut page = Page { model, width, labels: LABELS, lines: Vec::new(), sections: Vec::new() };
    match target {
        Target::Backup(name) => match model.backup(name) {
            Some(backup) => page.backup(backup),
            None => page.gone(&format!("The backup {name} is gone.")),
        },
        Target::Job(id) => match model.job(*id) {
            Some(job) => {
                page.title(&job.title());
                page.job(job);
            }
            None => page.gone(&format!("The job {id} is gone.")),
        },
        Target::Storage(name) => page.storage(name),
        Target::Service(name) => page.service(name),
        Target::Schedule(name) => page.schedule(name),
    }
    page
}

/// Columns of the labels of a page whose labels are known.
const LABELS: usize = 15;

/// Lines as they are put together.
pub(super) struct Page<'a> {
    pub(super) model: &'a Model,
    pub(super) width: usize,
    /// Columns of the labels, with what stands between them and the values.
    pub(super) labels: usize,
    pub(super) lines: Vec<Line<'static>>,
    /// Where its sections begin.
    pub(super) sections: Vec<usize>,
}

impl Page<'_> {
    pub(super) fn gone(&mut self, text: &str) {
        self.lines.push(Line::styled(escape(text), self.model.theme.dim));
    }

    pub(super) fn title(&mut self, text: &str) {
        self.lines.push(Line::styled(escape(text), self.model.theme.title));
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.sections.push(self.lines.len());
        self.lines.push(Line::raw(""));
        self.lines.push(Line::styled(text.to_owned(), self.model.theme.accent));
    }

    /// A label and a value; a long value goes on below itself.
    pub(super) fn fact(&mut self, label: &str, value: impl Into<String>) {
        self.fact_styled(label, Span::raw(value.into()));
    }

    pub(super) fn fact_styled(&mut self, label: &str, value: Span<'static>) {
        let style = value.style;
        let labels = self.labels;
        let text = self.model.commands(&value.content);
        for (i, part) in wrap(&text, self.width.saturating_sub(labels)).into_iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            self.lines.push(Line::from(vec![
                Span::styled(format!("{label:<labels$}"), self.model.theme.dim),
                Span::styled(part, style),
            ]));
        }
    }

    pub(super) fn text(&mut self, text: &str, style: ratatui::style::Style) {
        for part in wrap(&self.model.say(text), self.width) {
            self.lines.push(Line::styled(part, style));
        }
    }

    fn backup(&mut self, backup: &Backup) {
        let model = self.model;
        self.title(&backup.name);
        let job = model.job_of(&Target::Backup(backup.name.clone()));
        let active = job.filter(|j| !j.state.is_finished());
        if active.is_none() {
            let (state, style) = backup_state(model, backup);
            self.fact_styled("State", Span::styled(state, style));
        }
        if let Some(job) = active {
            self.job(job);
            self.heading("Backup");
        }
        match (job.filter(|j| j.error.is_some() && active.is_none()), &backup.error) {
            // What went wrong comes before what it was to be.
            (Some(job), _) => self.failure(job),
            (None, Some(error)) => self.fact_styled("Error", Span::styled(escape(error), model.theme.error)),
            (None, None) => {}
        }
        self.fact("Service", escape(&backup.service));
        let folder = if backup.folder.is_empty() { String::new() } else { format!(" / {}", escape(&backup.folder)) };
        self.fact("Storage", format!("{}{folder}", escape(&backup.storage)));
        self.fact("Model", format!("{}, {}", model_word(backup), type_words(backup.backup_type)));
        if let Some(words) = chain::words(&model.data.backups, backup) {
            self.fact("Chain", escape(&words));
        }
        if let Some(by) = backup.made_by() {
            self.fact("Made by", by);
        }
        if let Some(at) = backup.consistent_at {
            let ts = backup.consistent_at_ts.map_or(String::new(), |ts| format!("  ({ts})"));
            self.fact("Consistent at", format!("{}{ts}", when_exactly(model, at)));
        }
        match (backup.size_bytes, backup.uncompressed_bytes) {
            (Some(size), Some(plain)) => {
                let of = if backup.model.counts_documents() { "of BSON" } else { "of files" };
                let new = backup.new_bytes.map_or_else(String::new, |new| format!(", {} new", bytes(new)));
                self.fact("Size", format!("{} stored{new}, {} {of}", bytes(size), bytes(plain)));
            }
            (Some(size), None) => self.fact("Size", format!("{} stored", bytes(size))),
            _ => {}
        }
        if let Some(documents) = backup.documents {
            self.fact("Documents", count(documents));
        }
        if let Some(begun) = backup.begun_at() {
            let took = backup.finished_at.map(|end| (end - begun).num_seconds().max(0) as u64);
            let took = took.map_or(String::new(), |s| format!(", took {}", duration(s)));
            self.fact("Started", format!("{}{took}", when_exactly(model, begun)));
        } else {
            self.fact("Started", "nothing in it says when");
        }
        if let Some(version) = &backup.server_version {
            let fcv = backup.fcv.as_ref().map_or(String::new(), |f| format!(", FCV {}", escape(f)));
            self.fact("Server", format!("MongoDB {}{fcv}", escape(version)));
        }
        self.fact("Compression", backup.compression.to_string());
        if let Some(encryption) = &backup.encryption {
            self.fact("Encrypted to", words_of(&encryption.recipients));
        }
        if backup.pinned {
            self.fact("Pinned", "yes: nothing removes it");
        }
        match (backup.verified_at, &backup.verify_error) {
            (Some(at), None) => {
                self.fact_styled("Verified", Span::styled(format!("✓ {}", ago(model, at)), model.theme.ok));
            }
            (Some(at), Some(error)) => {
                let text = format!("✗ {}: {}", ago(model, at), escape(error));
                self.fact_styled("Verified", Span::styled(text, model.theme.error));
            }
            (None, _) => self.fact("Verified", "never"),
        }
        self.recoverable_by(backup);
        match model.manifests.get(&backup.name) {
            Some(Load::Ready(manifest)) => self.manifest(manifest),
            Some(Load::Waiting) => self.text("Reading the manifest…", model.theme.dim),
            Some(Load::Failed(problem)) => {
                self.heading("Manifest");
                self.text(&problem.message, model.theme.error);
                if let Some(hint) = &problem.hint {
                    self.text(hint, model.theme.command);
                }
            }
            None => {}
        }
        if let Some(job) = job {
            if active.is_none() {
                self.heading(&format!("Job {}", job.id));
                self.job_facts(job);
            }
            self.log(job);
        }
    }

    fn manifest(&mut self, contents: &Contents) {
        let model = self.model;
        let manifest = &contents.envelope;
        self.heading("Manifest");
        // A dump of mongodump says neither.
        for (label, value) in [("Replica set", &manifest.replica_set), ("Read from", &manifest.member)] {
            if !value.is_empty() {
                self.fact(label, escape(value));
            }
        }
        let tool = escape(&manifest.tool_version);
        match manifest.engine {
            EngineKind::Native => self.fact("Tool", format!("mongokeep {tool}, format {}", manifest.format_version)),
            // It says its own name.
            EngineKind::Pbm | EngineKind::Mongodump => self.fact("Tool", tool),
        }
        if let Some(held) = &contents.files {
            self.files(held);
            return;
        }
        if manifest.engine.counts_documents() {
            let entries = if contents.oplog_entries == 1 { "entry" } else { "entries" };
            self.fact("Oplog", format!("{} {entries}", count(contents.oplog_entries)));
        }
        if !manifest.selection.is_everything() {
            let words = |list: &[crate::domain::namespace::Pattern]| {
                list.iter().map(|p| escape(&p.to_string())).collect::<Vec<_>>().join(", ")
            };
            if !manifest.selection.include.is_empty() {
                self.fact("Included", words(&manifest.selection.include));
            }
            if !manifest.selection.exclude.is_empty() {
                self.fact("Excluded", words(&manifest.selection.exclude));
            }
        }
        if contents.open_transactions > 0 {
            let n = contents.open_transactions;
            self.fact("Transactions", format!("{n} open at that moment; a restore discards them"));
        }
        if !manifest.left_out.is_empty() {
            self.heading("Left out");
            for left in &manifest.left_out {
                self.text(&format!("{}: {}", left.what, left.why), model.theme.warn);
            }
        }
        self.heading(&format!("Collections ({})", count(contents.namespaces.len() as u64)));
        let name_width = self.width.saturating_sub(28).clamp(12, 60);
        for entry in contents.namespaces.iter().take(COLLECTIONS) {
            self.lines.push(Line::from(vec![
                Span::raw(super::text::cell(&escape(&entry.namespace.to_string()), name_width)),
                Span::raw(format!("{:>15}", entry.documents.map_or_else(String::new, count))),
                Span::styled(format!("{:>11}", entry.bytes.map_or_else(String::new, bytes)), model.theme.dim),
            ]));
        }
        if contents.namespaces.len() > COLLECTIONS {
            let more = contents.namespaces.len() - COLLECTIONS;
            self.text(
                &format!("and {} more: mongokeep backup show {}", count(more as u64), manifest.name),
                model.theme.dim,
            );
        }
    }

    fn files(&mut self, held: &HeldFiles) {
        self.fact("Data folder", escape(&held.data_folder));
        self.fact("Files", format!("{}, {}", count(held.files), bytes(held.bytes)));
        let new = format!("{} new ({})", count(held.new_blocks), bytes(held.new_bytes));
        self.fact("Blocks", format!("{}, {new}", count(held.blocks)));
        self.fact("Copied", held.copied.clone());
        if let Some(locked) = held.locked_millis {
            self.fact("Locked for", moments(locked));
        }
    }

    fn job(&mut self, job: &Job) {
        self.job_facts(job);
        if !matches!(self.model.target(), Some(Target::Backup(_))) {
            self.log(job);
        }
    }

    fn job_facts(&mut self, job: &Job) {
        let model = self.model;
        let (state, style) = job_state(model, job);
        self.fact_styled("State", Span::styled(state, style));
        if !job.state.is_finished() && job.progress.bytes_done + job.progress.bytes_total > 0 {
            let width = self.width.saturating_sub(16).min(40);
            let mut spans = vec![Span::styled(format!("{:<15}", "Progress"), model.theme.dim)];
            spans.extend(bar(model, &job.progress, width));
            self.lines.push(Line::from(spans));
            self.fact("", progress_words(&job.progress));
            self.throughput(job);
        }
        let p = &job.progress;
        if p.objects_total > 0 {
            let documents = if p.documents_done > 0 {
                format!(", {}", counted(p.documents_done, "document"))
            } else {
                String::new()
            };
            self.fact("Objects", format!("{} of {}{documents}", count(p.objects_done), count(p.objects_total)));
        }
        if !job.phase.is_empty() && !job.state.is_finished() {
            self.fact("Now", escape(&job.phase));
        }
        // The page of a backup has said it above.
        if !matches!(self.model.target(), Some(Target::Backup(_))) || !job.state.is_finished() {
            self.failure(job);
        }
        if let Some(ts) = job.point_in_time {
            self.fact("As of", format!("{}, {}", when_exactly(model, ts.to_datetime()), ts.within_second()));
            self.fact("Base", escape(job.backup.as_deref().unwrap_or("-")));
        }
        self.fact("Attempt", attempt_words(job));
        if job.state == JobState::WaitingRetry
            && let Some(at) = job.next_attempt_at
        {
            self.fact("Next attempt", format!("{}, {}", when_exactly(model, at), countdown(model, at)));
        }
        self.fact("Queued", when_exactly(model, job.created_at));
        if let (Some(start), Some(end)) = (job.started_at, job.finished_at) {
            let seconds = (end - start).num_seconds().max(0) as u64;
            self.fact("Took", duration(seconds));
        }
    }

    fn log(&mut self, job: &Job) {
        let model = self.model;
        let Some(log) = model.logs.get(&job.id).filter(|l| !l.is_empty()) else { return };
        self.heading("Log");
        let several = log.back().is_some_and(|l| l.attempt > 1);
        let mut attempt = 0;
        for line in log {
            if line.attempt != attempt && several {
                let began = when_exactly(model, line.at);
                self.lines.push(Line::styled(format!("attempt {}, {began}", line.attempt), model.theme.accent));
            }
            attempt = line.attempt;
            let style = match line.level {
                LogLevel::Info => model.theme.text,
                LogLevel::Warn => model.theme.warn,
                LogLevel::Error => model.theme.error,
            };
            let sign = match line.level {
                LogLevel::Info => ' ',
                LogLevel::Warn => '!',
                LogLevel::Error => 'x',
            };
            let time = line.at.with_timezone(&model.zone).format("%H:%M:%S").to_string();
            for (i, part) in wrap(&model.say(&line.message), self.width.saturating_sub(11)).into_iter().enumerate() {
                let time = if i == 0 { time.as_str() } else { "" };
                let sign = if i == 0 { sign } else { ' ' };
                self.lines.push(Line::from(vec![
                    Span::styled(format!("{time:<8} "), model.theme.dim),
                    Span::styled(format!("{sign} "), style),
                    Span::styled(part, style),
                ]));
            }
        }
    }

    fn storage(&mut self, name: &str) {
        let model = self.model;
        let Some(storage) = model.data.storages.iter().find(|s| s.name == name) else {
            return self.gone(&format!("The storage {name} is gone."));
        };
        self.title(name);
        let fields = crate::client::storage_fields(&storage.kind);
        let shown = storage.config.iter().filter(|(_, value)| !storage.place.contains(value.as_str()));
        let facts: Vec<(String, String)> = shown
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| match fields.iter().find(|f| f.key == key) {
                Some(field) if field.kind == FieldKind::Bool => {
                    (field.label.to_owned(), if value == "true" { "yes" } else { "no" }.to_owned())
                }
                Some(field) => (field.label.to_owned(), escape(&field.words(value))),
                None => (escape(key), escape(value)),
            })
            .collect();
        self.labels = facts.iter().map(|(label, _)| label.width() + 2).max().unwrap_or(0).clamp(LABELS, LABELS + 15);
        self.fact("Type", escape(&storage.kind));
        self.fact("Where", escape(&storage.place));
        for (label, value) in facts {
            self.fact(&label, value);
        }
        if let Some(encryption) = &storage.encryption {
            self.fact("Encrypted to", encryption.words());
            match encryption.proof {
                Some(proof) => self.fact("Proof", proof.word()),
                None => {
                    let text = "✗ missing: no backup begins; e edits it".to_owned();
                    self.fact_styled("Proof", Span::styled(text, model.theme.error));
                }
            }
        }
        self.fact("Used by", used_by(model, name));
        self.fact("Backups", count(storage.backups));
        self.fact("Held", bytes(storage.bytes));
        for (label, text) in super::storage_holdings::facts(model, name, self.width.saturating_sub(self.labels)) {
            self.fact(label, text);
        }
        let here = model.data.backups.iter().filter(|backup| backup.storage == name);
        let incomplete = here.filter(|backup| backup.state == BackupState::Incomplete).count() as u64;
        if incomplete > 0 {
            let text = format!("{}: {} says what is left of it", counted(incomplete, "backup"), checks(model));
            self.fact_styled("Incomplete", Span::styled(text, model.theme.warn));
        }
        if let Some(text) = recorded(model, name) {
            self.fact("Recorded oplog", text);
        }
        if let Some(Some(free)) = model.free_space.get(name) {
            self.fact("Free", bytes(*free));
        }
        match (storage.last_test_at, &storage.last_test_error) {
            (Some(at), None) => {
                self.fact_styled("Last test", Span::styled(format!("✓ passed {}", ago(model, at)), model.theme.ok));
            }
            (Some(at), Some(error)) => {
                let text = format!("✗ failed {}: {}", ago(model, at), escape(error));
                self.fact_styled("Last test", Span::styled(text, model.theme.error));
            }
            (None, _) => self.fact("Last test", "never; t tests it"),
        }
        if let Some(job) = super::lists::failed_job(model, storage) {
            let at = job.finished_at.map_or_else(String::new, |at| format!(" {}", ago(model, at)));
            let text = format!("✗ job {} failed{at}: {}", job.id, escape(job.error.as_deref().unwrap_or_default()));
            self.fact_styled("Last job", Span::styled(text, model.theme.error));
        }
        self.recent("Backups here", |b| b.storage == name);
    }

    /// The newest backups that belong to a service or storage.
    pub(super) fn recent(&mut self, title: &str, keep: impl Fn(&Backup) -> bool) {
        let model = self.model;
        let found: Vec<&Backup> = model.data.backups.iter().filter(|b| keep(b)).take(12).collect();
        self.heading(title);
        if found.is_empty() {
            self.text("none yet", model.theme.dim);
        }
        let name_width = self.width.saturating_sub(40).clamp(10, 40);
        for backup in found {
            let (state, style) = backup_state(model, backup);
            let name = super::text::cell(&escape(&backup.name), name_width);
            self.lines.push(Line::from(vec![
                Span::raw(format!("{name}  ")),
                Span::styled(format!("{state:<13}"), style),
                Span::raw(format!("{:>9}  ", backup.size_bytes.map_or("-".into(), bytes))),
                Span::styled(
                    backup.consistent_at.or(backup.begun_at()).map_or("-".into(), |at| when(model, at)),
                    model.theme.dim,
                ),
            ]));
        }
    }
}

/// The schedules that write to a storage.
fn used_by(model: &Model, storage: &str) -> String {
    /// So many are named.
    const NAMED: usize = 5;
    let names: Vec<String> =
        model.data.schedules.iter().filter(|s| s.storage == storage).map(|s| escape(&s.name)).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match names.as_slice() {
        [] => "no schedule".to_owned(),
        [name] => format!("the schedule {name}"),
        names => format!("the schedules {}{more}", names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")),
    }
}

/// The key that checks a storage.
fn checks(model: &Model) -> String {
    model.keymap.first(Action::CheckStorage)
}

/// What is held of the oplog of the services that record to a storage.
fn recorded(model: &Model, storage: &str) -> Option<String> {
    let is_here = |status: &&Status| status.archive.as_ref().is_some_and(|archive| archive.storage == storage);
    let here: Vec<&Status> = model.data.pitr.iter().filter(is_here).collect();
    let size = here.iter().map(|status| status.size_bytes).fold(0, u64::saturating_add);
    let slices = here.iter().map(|status| status.slices).fold(0, u64::saturating_add);
    // One that its engine records has no slices, and says not how much it is.
    let services: Vec<String> = here.iter().map(|status| escape(&status.service)).collect();
    let of = services.join(", ");
    match (here.is_empty(), slices) {
        (true, _) => None,
        (false, 0) => Some(format!("of {of}")),
        (false, _) => Some(format!("{}, {}, of {of}", bytes(size), counted(slices, "slice"))),
    }
}

/// `2 of 4, 15 min apart`: which attempt it is, and how many there are at most.
fn attempt_words(job: &Job) -> String {
    let attempt = job.attempt.max(1);
    if job.retry.mode == RetryMode::Manual {
        return attempt.to_string();
    }
    let most = (job.retry.retries + 1).max(attempt);
    format!("{attempt} of {most}, {} apart", duration(job.retry.interval))
}
