//! The page of one service: what protects it, what there is of it, how it is reached.

use ratatui::text::Span;

use super::details::Page;
use super::lists::service_state;
use super::text::{ago, when_exactly};
use crate::domain::text::escape;
use crate::tui::action::Action;
use crate::tui::model::Load;

impl Page<'_> {
    /// Its schedules stand above its backups.
    pub(super) fn service(&mut self, name: &str) {
        let model = self.model;
        let theme = &model.theme;
        let Some(service) = model.data.services.iter().find(|s| s.name == name) else {
            return self.gone(&format!("The service {name} is gone."));
        };
        self.title(name);
        let ((state, style), server) = service_state(model, name);
        self.fact_styled("State", Span::styled(state, style));
        if let Some(Load::Failed(problem)) = model.infos.get(name) {
            self.fact_styled("", Span::styled(model.say(&problem.message), theme.error));
            if let Some(hint) = &problem.hint {
                self.fact_styled("What to do", Span::styled(model.say(hint), theme.command));
            }
        }
        match service.last_good_backup_at {
            Some(at) => self.fact("Last good", format!("{}, {}", ago(model, at), when_exactly(model, at))),
            None => self.fact_styled("Last good", Span::styled("! there is none yet", theme.warn)),
        }
        self.last_runs(|b| b.service == name);
        let own: Vec<usize> =
            (0..model.data.schedules.len()).filter(|i| model.data.schedules[*i].service == name).collect();
        self.heading(&format!("Schedules ({})", own.len()));
        if own.is_empty() {
            let key = model.keymap.first(Action::CreateSchedule);
            self.text(&format!("none: nothing backs it up by itself (2, then {key}, makes one)"), theme.warn);
        }
        for at in own {
            self.schedule_line(at);
        }
        self.recoverable(name);
        self.recent("Backups", |b| b.service == name);
        if service.engine.has_nodes() {
            self.cluster(name);
        }
        self.heading("Connection");
        if server != "-" {
            self.fact("Server", format!("MongoDB {server}"));
        }
        self.fact("Connection", escape(&service.uri));
        self.fact("Cluster label", service.cluster.as_deref().map_or("-".into(), escape));
    }
}
