//! Which services can be reached, and which question an answer about one still belongs to.
//!
//! A watch and the probes of keys and pages say the same in two ways: the newest word counts. A service that was edited is
//! another question: what was asked before does not count for it.

use super::heard::LostService;
use super::model::{About, Level, Load, Model};
use super::msg::{Effect, Problem};
use super::service_strip;
use crate::domain::backup::Model as BackupModel;
use crate::domain::service::ServerRole;
use crate::domain::text::escape;
use crate::error::ErrorKind;

/// What is known of a service, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceLook {
    NotAsked,
    Asking,
    Answers,
    /// It answers, and cannot be backed up as it is: why.
    Wrong(&'static str),
    Lost,
    /// It is there, and does not let us in, or cannot be asked.
    Refuses,
}

impl Model {
    /// Whether a service can be reached, and what its last check said.
    pub fn service_look(&self, service: &str) -> ServiceLook {
        if self.lost_service(service).is_some() {
            return ServiceLook::Lost;
        }
        let checks = self.checks.iter().filter(|((name, of), _)| name == service && self.judges(service, *of));
        let fails = checks.filter_map(|(_, check)| match check {
            Load::Ready(report) => report.items.iter().find(|item| item.stops_backups()),
            Load::Waiting | Load::Failed(_) => None,
        });
        let fails: Vec<_> = fails.collect();
        match self.infos.get(service) {
            Some(Load::Ready(info)) if info.role == ServerRole::Standalone => ServiceLook::Wrong("standalone"),
            Some(Load::Ready(info)) if info.role == ServerRole::Router => ServiceLook::Wrong("a mongos"),
            Some(Load::Ready(_)) => match fails.first().map(|item| item.id.as_str()) {
                None => ServiceLook::Answers,
                Some("replica_set") => ServiceLook::Wrong("set fails"),
                Some("rights_backup") => ServiceLook::Wrong("lacks rights"),
                Some("authenticated") => ServiceLook::Wrong("login refused"),
                Some("oplog_window") => ServiceLook::Wrong("oplog fails"),
                // Whether something may be backed up, and where to, is no matter of the server.
                Some("backup_management" | "storage") if fails.len() == 1 => ServiceLook::Answers,
                Some(_) => ServiceLook::Wrong("check failed"),
            },
            Some(Load::Failed(problem)) if problem.kind == ErrorKind::Unreachable => ServiceLook::Lost,
            Some(Load::Failed(_)) => ServiceLook::Refuses,
            Some(Load::Waiting) => ServiceLook::Asking,
            None => ServiceLook::NotAsked,
        }
    }

    /// Whether the check of this model says how the service does: with the models of its schedules it is backed up, and
    /// without one with the usual model. What lacks for another model is said where that is chosen.
    fn judges(&self, service: &str, model: BackupModel) -> bool {
        let mut of_schedules =
            self.data.schedules.iter().filter(|s| s.enabled && s.service == service).map(|s| s.model).peekable();
        match of_schedules.peek() {
            Some(_) => of_schedules.any(|of| of == model),
            None => model == BackupModel::default(),
        }
    }

    /// Since when and why a service cannot be reached; `None`: it can, or nothing is known.
    pub fn lost_service(&self, service: &str) -> Option<&LostService> {
        self.reach.get(service)?.lost.as_ref()
    }

    /// All of them, in the order of the list.
    pub fn lost_services(&self) -> Vec<(&str, &LostService)> {
        let names = self.data.services.iter().map(|s| s.name.as_str());
        names.filter_map(|name| Some((name, self.lost_service(name)?))).collect()
    }

    /// Which edition of a service is asked about: another one after each edit.
    pub fn edition(&self, service: &str) -> u64 {
        self.editions.get(service).copied().unwrap_or(0)
    }

    /// Forgets what was heard of a service that is another one now; answers that are on their way no longer count.
    pub(super) fn edited(&mut self, service: &str) {
        *self.editions.entry(service.to_owned()).or_default() += 1;
        self.infos.remove(service);
        self.namespaces.remove(service);
        self.checks.retain(|(name, _), _| name != service);
        self.reach.remove(service);
        self.strip = service_strip::rows(self);
    }

    /// Takes in whether a service can be reached. What it is is asked for again when it is back.
    pub(super) fn note_reach(&mut self, service: &str, heard: Result<(), Problem>) -> Vec<Effect> {
        let now = self.now;
        let known = self.reach.entry(service.to_owned()).or_default();
        let mut effects = Vec::new();
        match heard {
            Ok(()) => {
                known.answered = true;
                if known.lost.take().is_some() {
                    let about = About::Service(service.to_owned());
                    self.cause_gone(&about);
                    self.emit_about(about, Level::Good, format!("service {service} answers again"), None);
                }
                if matches!(self.infos.get(service), Some(Load::Failed(_))) {
                    self.infos.remove(service);
                    effects.push(Effect::ServiceInfo(service.to_owned()));
                }
            }
            Err(problem) => match &mut known.lost {
                Some(lost) => lost.problem = problem,
                None => {
                    known.lost = Some(LostService { since: now, problem: problem.clone() });
                    if known.answered {
                        let about = About::Service(service.to_owned());
                        self.emit_problem_about(about, &format!("service {service} is unreachable"), &problem);
                    }
                }
            },
        }
        service_strip::stand_anew(self, service);
        effects
    }

    /// `orders-rs is unreachable since 14:02:18`, and why; of several, how many and which.
    pub fn lost_words(&self) -> Option<(String, String)> {
        let lost = self.lost_services();
        let (name, first) = lost.first()?;
        let since = lost.iter().map(|(_, lost)| lost.since).min().unwrap_or(first.since);
        let since = since.with_timezone(&self.zone).format("%H:%M:%S");
        Some(match lost.len() {
            // Of one that never answered nobody knows since when.
            1 if !self.reach.get(*name).is_some_and(|reach| reach.answered) => {
                (format!("{} is unreachable, asked at {since}", escape(name)), first.problem.message.clone())
            }
            1 => (format!("{} is unreachable since {since}", escape(name)), first.problem.message.clone()),
            n => {
                let names: Vec<String> = lost.iter().map(|(name, _)| escape(name)).collect();
                (format!("{n} services are unreachable, the first since {since}"), names.join(", "))
            }
        })
    }
}
