//! The cluster on the page of a service: its nodes as the engine sees them, and what they are at. And what a form says of one.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::details::Page;
use super::text::{ago, cell, fit, spinner, wrap};
use crate::domain::cluster::{Cluster, ClusterNode, ClusterOperation, NodeState, OperationPart};
use crate::domain::service::EngineProposal;
use crate::domain::text::{bytes, counted, duration, escape};
use crate::tui::model::{Load, Model};

impl Page<'_> {
    /// What is known of the cluster of the service `name`.
    pub(super) fn cluster(&mut self, name: &str) {
        let theme = &self.model.theme;
        match self.model.clusters.get(name) {
            None => {
                self.heading("Cluster");
                self.text("not asked yet", theme.dim);
            }
            Some(Load::Waiting) => {
                self.heading("Cluster");
                let text = format!("{} asking PBM", spinner(self.model));
                self.text(&text, theme.running);
            }
            Some(Load::Failed(problem)) => {
                self.heading("Cluster");
                self.text(&format!("✗ PBM does not answer: {}", problem.message), theme.error);
                if let Some(hint) = &problem.hint {
                    self.fact_styled("What to do", Span::styled(self.model.say(hint), theme.command));
                }
            }
            Some(Load::Ready(cluster)) => self.nodes(cluster),
        }
    }

    fn nodes(&mut self, cluster: &Cluster) {
        let theme = &self.model.theme;
        let nodes: usize = cluster.sets.iter().map(|set| set.nodes.len()).sum();
        let failing = cluster.failing().count();
        let said = match failing {
            0 => String::new(),
            n => format!(", {n} need{} you", if n == 1 { "s" } else { "" }),
        };
        let sets = counted(cluster.sets.len() as u64, "replica set");
        let of = format!("{} in {sets}{said}", counted(nodes as u64, "node"));
        match nodes {
            0 => self.heading("Cluster"),
            _ => self.heading(&format!("Cluster ({of}; seen {})", ago(self.model, cluster.seen_at))),
        }
        for problem in &cluster.problems {
            self.text(&format!("! {}", problem.text), theme.warn);
            if !problem.remedy.is_empty() {
                self.fact_styled("What to do", Span::styled(self.model.commands(&problem.remedy), theme.command));
            }
        }
        let widest = |texts: Vec<usize>, most: usize| texts.into_iter().max().unwrap_or(0).min(most);
        let all = || cluster.sets.iter().flat_map(|set| set.nodes.iter().map(move |node| (set, node)));
        let widths = Widths {
            set: widest(all().map(|(set, _)| set.name.width()).collect(), 14),
            host: widest(all().map(|(_, node)| node.host.width()).collect(), if self.width < 100 { 28 } else { 48 }),
            role: widest(all().map(|(_, node)| node.role.width()).collect(), 12),
        };
        for set in &cluster.sets {
            for (i, node) in set.nodes.iter().enumerate() {
                self.node(if i == 0 { &set.name } else { "" }, node, &widths);
            }
        }
        if let Some(operation) = &cluster.operation {
            self.operation(operation);
        }
    }

    fn node(&mut self, set: &str, node: &ClusterNode, widths: &Widths) {
        let theme = &self.model.theme;
        let (sign, style) = match node.state {
            NodeState::Ready => ("✓", theme.ok),
            NodeState::Failing => ("!", theme.warn),
            NodeState::Lost | NodeState::Missing => ("✗", theme.error),
            NodeState::Arbiter => ("·", theme.dim),
        };
        let agent = node.agent.as_deref().unwrap_or("-");
        let since = node.silent_seconds.map(|s| format!("last alive {} ago", duration(s)));
        let mut spans = vec![
            Span::styled(cell(set, widths.set + 1), theme.accent),
            Span::styled(format!("{sign} "), style),
            Span::raw(format!("{}  ", cell(&node.host, widths.host))),
            Span::styled(format!("{}  ", cell(&node.role, widths.role)), theme.dim),
            Span::styled(format!("{}  ", cell(agent, 8)), theme.dim),
        ];
        let used: usize = spans.iter().map(|span| span.content.width()).sum();
        let room = self.width.saturating_sub(used);
        let whole = since.iter().fold(node.state.words().to_owned(), |state, since| format!("{state}, {since}"));
        // Where there is no room beside the state, it stands below.
        let (state, since) = if whole.width() <= room { (whole, None) } else { (node.state.words().to_owned(), since) };
        spans.push(Span::styled(fit(&state, room), style));
        self.lines.push(Line::from(spans));
        if let Some(since) = since {
            self.indented(widths.set + 3, &since, style);
        }
        let below = node
            .errors
            .iter()
            .map(|error| (error, style))
            .chain(Some(&node.remedy).filter(|remedy| !remedy.is_empty()).map(|remedy| (remedy, theme.command)));
        for (text, style) in below {
            self.indented(widths.set + 3, text, style);
        }
    }

    /// Where its state was cut, it is said here.
    fn indented(&mut self, columns: usize, text: &str, style: Style) {
        for part in wrap(&escape(text), self.width.saturating_sub(columns)) {
            self.lines.push(Line::from(vec![Span::raw(" ".repeat(columns)), Span::styled(part, style)]));
        }
    }

    fn operation(&mut self, operation: &ClusterOperation) {
        let theme = &self.model.theme;
        let what = format!("{} {}", operation.kind, operation.name);
        let what = what.trim();
        let since = operation.started_at.map(|at| format!(", begun {}", ago(self.model, at))).unwrap_or_default();
        self.heading("Operation");
        if let Some(seconds) = operation.silent_seconds {
            let dead = format!("✗ {what}{since}: no sign of life for {}", duration(seconds));
            self.text(&dead, theme.error);
            let then =
                "It keeps nothing from being done: PBM removes what is left of it when its next operation begins.";
            self.fact_styled("What to do", Span::styled(then, theme.warn));
        } else {
            let text = format!("{} {what}: {}{since}", spinner(self.model), operation.status);
            self.text(&text, theme.running);
        }
        for part in &operation.parts {
            self.part(part, operation.silent_seconds.is_some());
        }
    }

    fn part(&mut self, part: &OperationPart, is_dead: bool) {
        let theme = &self.model.theme;
        let turning = spinner(self.model);
        let (sign, style) = match (&part.error, part.is_over, is_dead) {
            (Some(_), ..) => ("✗", theme.error),
            (None, true, _) => ("✓", theme.ok),
            (None, false, true) => ("!", theme.warn),
            (None, false, false) => (turning, theme.running),
        };
        let at = if part.node.is_empty() { String::new() } else { format!(" at {}", part.node) };
        let stored = part.bytes.map(|n| format!(", {} stored", bytes(n))).unwrap_or_default();
        let text = format!("{sign} {}{at}: {}{stored}", part.set, part.status);
        self.indented(2, &text, style);
        if let Some(error) = &part.error {
            self.indented(4, error, theme.error);
        }
    }
}

/// The engine that fits a cluster better than the one in a form, and the key that takes it.
pub fn proposal(model: &Model, proposal: &EngineProposal, width: usize) -> Vec<Line<'static>> {
    let found = escape(&format!("! It {}", proposal.words()));
    let keys = format!("Ctrl-T takes the engine {}; Ctrl-S adds it as it is", proposal.engine.word());
    let found = wrap(&found, width).into_iter().take(4).map(|part| Line::styled(part, model.theme.warn));
    found.chain(wrap(&keys, width).into_iter().map(|part| Line::styled(part, model.theme.accent))).collect()
}

struct Widths {
    set: usize,
    host: usize,
    role: usize,
}
