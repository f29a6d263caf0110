//! The help: every key, from the keymap itself.

use ratatui::text::{Line, Span};

use super::text::wrap;
use crate::tui::action::{Action, Group};
use crate::tui::common_keys::{CommonKeys, common_keys};
use crate::tui::keymap::{Chord, words};
use crate::tui::list::Filter;
use crate::tui::model::{Layer, Model};

const COMMON: &str = "On several screens";

/// First the keys that work where the help was opened, then those of other places. What a key means on several screens
/// is said once.
pub(super) fn lines(model: &Model, filter: &str, filtering: bool, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let matcher = Filter { input: tui_input::Input::new(filter.to_owned()) };
    let mut lines = vec![Line::from(vec![
        Span::styled("filter  ", theme.dim),
        Span::styled(format!("{filter} "), if filtering { theme.input_focused } else { theme.input }),
    ])];
    let in_form = model.layers.iter().any(|l| matches!(l, Layer::Form(_)));
    // In a form the keys of the page below it are text, but for those of its timeline.
    let here: Vec<Group> =
        model.groups_below().into_iter().filter(|group| !in_form || *group == Group::Moment).collect();
    let common = common_keys(&model.keymap, |action| !model.is_hidden(action));
    let is_here = |row: &&CommonKeys| row.actions.iter().any(|action| here.contains(&action.group()));
    let (common_here, common_elsewhere): (Vec<&CommonKeys>, Vec<&CommonKeys>) = common.iter().partition(is_here);
    if in_form {
        lines.extend(form_keys(model, &matcher, width));
    }
    lines.extend(common_lines(model, &common_here, &matcher, "  each acts on what its screen lists", width));
    let (active, elsewhere): (Vec<Group>, Vec<Group>) = Group::ALL.into_iter().partition(|g| here.contains(g));
    for group in active {
        lines.extend(group_lines(model, group, &common, &matcher, "", width));
    }
    let note = if in_form { "  not in a form" } else { "  on other screens" };
    lines.extend(common_lines(model, &common_elsewhere, &matcher, note, width));
    for group in elsewhere {
        lines.extend(group_lines(model, group, &common, &matcher, note, width));
    }
    if !in_form {
        lines.extend(form_keys(model, &matcher, width));
    }
    lines
}

/// A heading, and the rows below it; nothing where there are none.
fn section(
    model: &Model,
    title: &str,
    note: &'static str,
    rows: Vec<(String, String)>,
    width: usize,
) -> Vec<Line<'static>> {
    let theme = &model.theme;
    if rows.is_empty() {
        return Vec::new();
    }
    let heading = Line::from(vec![Span::styled(title.to_owned(), theme.accent), Span::styled(note, theme.dim)]);
    let mut lines = vec![Line::raw(""), heading];
    for (keys, text) in rows {
        for (i, part) in wrap(&text, width.saturating_sub(20)).into_iter().enumerate() {
            let keys = if i == 0 { keys.as_str() } else { "" };
            lines.push(Line::from(vec![Span::styled(format!("  {keys:<18}"), theme.key), Span::raw(part)]));
        }
    }
    lines
}

fn common_lines(
    model: &Model,
    common: &[&CommonKeys],
    matcher: &Filter,
    note: &'static str,
    width: usize,
) -> Vec<Line<'static>> {
    let mut rows = Vec::new();
    for row in common {
        let keys = words(&row.chords);
        // Found by the names of its actions and of their screens, too.
        let actions = row.actions.iter().flat_map(|action| [action.title(), action.name(), action.group().title()]);
        if matcher.lets_through([row.text.as_str(), keys.as_str(), COMMON].into_iter().chain(actions)) {
            rows.push((keys, row.text.clone()));
        }
    }
    section(model, COMMON, note, rows, width)
}

/// The keys of a group but for those that are said among the common ones.
fn group_lines(
    model: &Model,
    group: Group,
    common: &[CommonKeys],
    matcher: &Filter,
    note: &'static str,
    width: usize,
) -> Vec<Line<'static>> {
    let mut rows = Vec::new();
    for action in Action::ALL.iter().filter(|action| action.group() == group && !model.is_hidden(**action)) {
        let all = model.keymap.chords(*action);
        let own: Vec<Chord> =
            all.iter().copied().filter(|chord| !common.iter().any(|row| row.has(*action, *chord))).collect();
        let is_said = own.is_empty() && !all.is_empty();
        let keys = words(&own);
        if !is_said && matcher.lets_through([action.title(), action.name(), keys.as_str(), group.title()]) {
            rows.push((keys, action.title().to_owned()));
        }
    }
    section(model, group.title(), note, rows, width)
}

/// What the keys of forms do; they are no part of the keymap.
fn form_keys(model: &Model, matcher: &Filter, width: usize) -> Vec<Line<'static>> {
    const KEYS: [(&str, &str); 13] = [
        ("Tab Down", "Next field"),
        ("Shift-Tab Up", "Previous field"),
        ("Left Right Space", "Choose"),
        ("Up Down", "Choose, where the values stand one below the other"),
        ("Enter", "Next field; where names are chosen, their list"),
        ("Ctrl-S", "Submit from any field"),
        ("Ctrl-T", "Take the free time or the engine that fits; try the service or the storage"),
        ("Esc", "Close; what was typed is asked about: d or Enter discards it"),
        ("Ctrl-A Ctrl-E", "Start and end of the text"),
        ("Ctrl-Left Ctrl-Right", "A word back, a word on"),
        ("Ctrl-U Ctrl-K", "Delete to the start, to the end"),
        ("Ctrl-W", "Delete a word"),
        ("Space", "In a list of several: mark, or take the mark away"),
    ];
    let rows: Vec<_> = KEYS.iter().filter(|(k, t)| matcher.lets_through([*k, *t, "Forms"])).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let key = |keys: &str| Span::styled(format!("  {keys:<21}"), model.theme.key);
    let mut lines = vec![Line::raw(""), Line::styled("Forms", model.theme.accent)];
    for (keys, text) in rows {
        for (i, part) in wrap(text, width.saturating_sub(23)).into_iter().enumerate() {
            lines.push(Line::from(vec![key(if i == 0 { keys } else { "" }), Span::raw(part)]));
        }
    }
    lines
}
