//! Every action by name: what the palette lists for what was typed, and in which order.

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::action::Action;
use super::model::{About, Layer, Level, Model};
use super::msg::Effect;
use super::update::act;

/// The actions that match what was typed, the best first; those that work now before those that do not.
pub fn matches(model: &Model) -> Vec<Action> {
    let Some(Layer::Palette(palette)) = model.layers.last() else { return Vec::new() };
    let pattern = Pattern::parse(palette.input.value(), CaseMatching::Ignore, Normalization::Smart);
    let mut matcher = Matcher::new(Config::DEFAULT);
    let mut buffer = Vec::new();
    let mut found: Vec<(u32, Action)> = Action::ALL
        .iter()
        .filter(|a| **a != Action::Palette)
        // A session that may not write does not offer writing; what is off for another reason says its reason.
        .filter(|a| !(model.look.read_only && a.changes()))
        .filter_map(|action| {
            let text = format!("{} {}", action.title(), action.name().replace('_', " "));
            pattern.score(Utf32Str::new(&text, &mut buffer), &mut matcher).map(|score| (score, *action))
        })
        .collect();
    // Letters in a row are what people type; letters strewn over a title come after that.
    let typed = palette.input.value().trim().to_lowercase();
    let strewn = |action: &Action| {
        let texts = [action.title().to_lowercase(), action.name().replace('_', " ")];
        texts.iter().all(|text| !typed.split_whitespace().all(|word| text.contains(word)))
    };
    found.sort_by_key(|(score, action)| {
        let begins = action.title().to_lowercase().starts_with(&typed);
        (!begins, strewn(action), why_not(model, *action).is_some(), std::cmp::Reverse(*score))
    });
    // Where the letters stand in a row somewhere, those that are only strewn are not meant.
    if found.iter().any(|(_, action)| !strewn(action)) {
        found.retain(|(_, action)| !strewn(action));
    }
    found.into_iter().map(|(_, action)| action).collect()
}

/// Why an action does nothing when it is picked from the palette.
///
/// Keys of another screen work from here as long as what they act on can be told.
pub fn why_not(model: &Model, action: Action) -> Option<String> {
    use super::action::Group;
    let here = model.groups();
    match action {
        // These need nothing selected, so that they work from any screen.
        Action::CreateBackup | Action::CreateSchedule | Action::AddService | Action::AddStorage => {
            model.why_not(action)
        }
        _ if here.contains(&action.group()) => model.why_not(action),
        _ => Some(match action.group() {
            Group::Backups => "works on the Backups screen (1)".into(),
            Group::Schedules => "works on the Schedules screen (2)".into(),
            Group::Storage => "works on the Storage screen (3)".into(),
            Group::Services => "works in Settings, Services (4)".into(),
            Group::Notifications => "works in Settings, Notifications (4)".into(),
            Group::Settings => "works in Settings, General or Appearance (4)".into(),
            Group::Report if action == Action::RepairStorage => "check a storage first (3, then v)".into(),
            Group::Moment => "works on the timeline of a restore".into(),
            _ => "does not apply here".into(),
        }),
    }
}

/// Does the picked action, or says why not.
pub fn run(model: &mut Model, action: Action) -> Vec<Effect> {
    match why_not(model, action) {
        Some(why) => {
            let text = format!("{}: {why}", action.title());
            model.emit_about(About::Key, Level::Warn, text, None);
            Vec::new()
        }
        None => act(model, action),
    }
}
