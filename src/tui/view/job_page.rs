//! What the page of a job says beyond its facts: what a failure means and what helps, and how fast the job is.

use ratatui::text::{Line, Span};

use super::details::Page;
use super::text::ago;
use crate::domain::backup::BackupState;
use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::text::{bytes, escape};
use crate::tui::action::Action;
use crate::tui::model::Model;

impl Page<'_> {
    /// What happened to a job, what that means, and what helps.
    pub(super) fn failure(&mut self, job: &Job) {
        let Some(error) = &job.error else { return };
        self.fact_styled("What happened", Span::styled(escape(error), self.model.theme.error));
        if matches!(job.state, JobState::Failed | JobState::WaitingRetry) {
            self.fact("What it means", meaning(self.model, job));
        }
        self.what_to_do(job);
    }

    /// What helps, with the keys of the screen.
    fn what_to_do(&mut self, job: &Job) {
        let model = self.model;
        let mut label = "What to do";
        let mut step = |page: &mut Self, text: String| {
            page.fact_styled(label, Span::styled(text, model.theme.command));
            label = "";
        };
        if let Some(hint) = &job.hint {
            step(self, model.say(hint));
            if let Some(keys) = keys_for(model, hint) {
                step(self, keys);
            }
        }
        if job.state == JobState::Failed {
            let retry = model.keymap.first(Action::RetryJob);
            step(self, format!("{retry} retries it, once the cause has gone"));
        }
    }

    /// How fast it was during the last minutes.
    pub(super) fn throughput(&mut self, job: &Job) {
        const ROWS: usize = 3;
        const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let model = self.model;
        let Some(samples) = model.rates.get(&job.id).filter(|s| s.len() > 2 && s.iter().any(|rate| *rate > 0)) else {
            return;
        };
        let width = self.width.saturating_sub(16).min(60);
        // Nothing was measured before it began.
        let first = samples.iter().position(|rate| *rate > 0).unwrap_or(0);
        let shown: Vec<u64> = samples.iter().skip(first.max(samples.len().saturating_sub(width))).copied().collect();
        let most = shown.iter().copied().max().unwrap_or(1).max(1);
        let rows = if model.size.1 < 30 { 1 } else { ROWS };
        for below in (0..rows).rev() {
            let height = |rate: u64| (u128::from(rate) * (rows * 8) as u128).div_ceil(u128::from(most)) as usize;
            let bars: String = shown.iter().map(|r| EIGHTHS[height(*r).saturating_sub(below * 8).min(8)]).collect();
            let label = if below + 1 == rows { "Throughput" } else { "" };
            let label = Span::styled(format!("{label:<15}"), model.theme.dim);
            self.lines.push(Line::from(vec![label, Span::styled(bars, model.theme.bar_done)]));
        }
        self.fact("", format!("at most {}/s", bytes(most)));
    }
}

/// What the failure of a job leads to: what is left behind, and what a person can still rely on.
fn meaning(model: &Model, job: &Job) -> String {
    let left = (job.kind.entry().left_behind)(job);
    let service = job.service.as_deref().unwrap_or_default();
    if job.kind != JobKind::Backup || service.is_empty() {
        return left;
    }
    let good = model.data.backups.iter().find(|b| b.service == service && b.state == BackupState::Succeeded);
    let kept = match good {
        Some(good) => format!(
            "The last good backup of {} is {}, {}.",
            escape(service),
            escape(&good.name),
            ago(model, good.consistent_at.unwrap_or(good.started_at))
        ),
        None => format!("There is no good backup of {}.", escape(service)),
    };
    format!("There is no such backup. {left} {kept}")
}

/// The keys that do what a hint names as a command.
fn keys_for(model: &Model, hint: &str) -> Option<String> {
    let key = |action| model.keymap.first(action);
    let ways = [
        ("mongokeep storage test ", Action::ScreenStorage, Action::TestStorage, "tests the storage"),
        ("mongokeep storage check ", Action::ScreenStorage, Action::CheckStorage, "checks the storage"),
        ("mongokeep storage edit ", Action::ScreenStorage, Action::EditStorage, "edits the storage"),
        ("mongokeep service check ", Action::ScreenSettings, Action::CheckService, "checks the service"),
        ("mongokeep service edit ", Action::ScreenSettings, Action::EditService, "edits the service"),
    ];
    let (_, screen, action, what) = ways.into_iter().find(|(command, ..)| hint.contains(command))?;
    Some(format!("or here: {}, select it, {} {what}", key(screen), key(action)))
}
