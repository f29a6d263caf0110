//! A storage is tested before it is saved.

use mongokeep::tui::form::{Item, Purpose};
use mongokeep::tui::model::{Layer, Look, Model};
use mongokeep::tui::msg::Effect;

use crate::support::screen::*;

const SIZE: (u16, u16) = (80, 24);

/// The form of a new storage, filled in.
fn filled() -> Model {
    let mut model = with_pitr(Look::default(), SIZE);
    keys(&mut model, "3 n");
    type_text(&mut model, "disk");
    keys(&mut model, "Tab Tab");
    type_text(&mut model, "/srv/backups");
    model
}

fn is_saved(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::AddStorage(values)] if values["path"] == ["/srv/backups"])
}

#[test]
fn it_is_saved_once_its_test_has_passed() {
    let mut model = filled();
    assert!(shown(&model).contains("It is tested before it is saved"), "{}", shown(&model));
    let effects = press(&mut model, "Ctrl-S");
    assert!(shown(&model).contains("it is saved when all is well"), "{}", shown(&model));
    assert!(keys(&mut model, "Ctrl-S").is_empty(), "one test is enough");
    assert!(is_saved(&tested(&mut model, &effects, &[])));
    assert!(form(&model).submitting);
}

#[test]
fn the_button_only_tests_it() {
    let mut model = filled();
    while form(&model).focus != Item::Try {
        press(&mut model, "Tab");
    }
    let effects = press(&mut model, "Enter");
    assert!(tested(&mut model, &effects, &[]).is_empty());
    assert!(shown(&model).contains("nothing is saved yet"), "{}", shown(&model));
    assert!(is_saved(&press(&mut model, "Ctrl-S")), "it has passed");
    // A test that is under way is waited for.
    let mut model = filled();
    let effects = press(&mut model, "Ctrl-T");
    assert!(press(&mut model, "Ctrl-S").is_empty());
    assert!(is_saved(&tested(&mut model, &effects, &[])));
}

#[test]
fn one_that_fails_is_saved_only_by_who_says_so() {
    let mut model = filled();
    let effects = press(&mut model, "Ctrl-S");
    assert!(tested(&mut model, &effects, &["write", "delete"]).is_empty());
    assert!(shown(&model).contains("✗ write: permission denied"), "{}", shown(&model));
    assert!(press(&mut model, "Ctrl-S").is_empty());
    let text = shown(&model);
    assert!(text.contains("The storage did not pass its test") && text.contains("delete: permission denied"), "{text}");
    assert!(press(&mut model, "Enter").is_empty(), "the harmless button comes first");
    assert_eq!(form(&model).purpose, Purpose::AddStorage);
    assert!(is_saved(&keys(&mut model, "Ctrl-S Right Enter")));
}

#[test]
fn what_was_changed_since_is_tested_again() {
    let mut model = filled();
    let first = press(&mut model, "Ctrl-S");
    type_text(&mut model, "2");
    assert!(tested(&mut model, &first, &[]).is_empty(), "that was another path");
    assert!(shown(&model).contains("Changed since it was tested."), "{}", shown(&model));
    let second = press(&mut model, "Ctrl-S");
    let saved = tested(&mut model, &second, &[]);
    assert!(matches!(&saved[..], [Effect::AddStorage(values)] if values["path"] == ["/srv/backups2"]), "{saved:?}");
}

#[test]
fn nothing_is_saved_below_a_question() {
    let mut model = filled();
    let effects = press(&mut model, "Ctrl-S");
    press(&mut model, "Esc");
    assert!(tested(&mut model, &effects, &[]).is_empty(), "whoever is leaving saves nothing");
    assert!(matches!(&model.layers[..], [Layer::Form(_), Layer::Confirm(_)]));
    press(&mut model, "Enter");
    assert!(model.layers.is_empty());
}

#[test]
fn an_edit_is_tested_too() {
    let mut model = with_pitr(Look::default(), SIZE);
    keys(&mut model, "3 e");
    let Purpose::EditStorage(name) = form(&model).purpose.clone() else { panic!() };
    to_row(&mut model, "path");
    type_text(&mut model, "x");
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(&effects[..], [Effect::TestDraft { edited: Some(edited), .. }] if *edited == name), "{effects:?}");
    let saved = tested(&mut model, &effects, &[]);
    assert!(matches!(&saved[..], [Effect::EditStorage(edited, _)] if *edited == name), "{saved:?}");
}
