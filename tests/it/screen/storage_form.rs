//! A storage is tested before it is saved.

use mongokeep::client::{EncryptionView, Holdings};
use mongokeep::domain::encryption::{Proof, Recipient};
use mongokeep::domain::storage::TestStep;
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::{Item, Purpose};
use mongokeep::tui::model::{Layer, Level, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot, draft_name};
use mongokeep::tui::update::update;

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
    let effects = tested(&mut model, &effects, &[]);
    assert!(matches!(&effects[..], [Effect::ReadHoldings { edited: None, .. }]), "{effects:?}");
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
    assert!(shown(&model).contains("Changed since it was tested"), "{}", shown(&model));
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

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
const OTHER: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

fn recipient(text: &str) -> Recipient {
    text.parse().unwrap()
}

/// The full data with changes.
fn with(size: (u16, u16), change: impl FnOnce(&mut Snapshot)) -> Model {
    let mut model = full(Look::default(), size);
    let mut snapshot = full_snapshot();
    change(&mut snapshot);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    model
}

/// The first storage encrypts to somebody.
fn encrypts(snapshot: &mut Snapshot, passphrase: bool, proof: Option<Proof>) {
    let storage = snapshot.storages.iter_mut().find(|s| s.name == "archive").unwrap();
    storage.config.insert("path".into(), "/srv/backups".into());
    storage.encrypt_to = if passphrase { Vec::new() } else { vec![recipient(RECIPIENT)] };
    let of_passphrase = passphrase.then(|| recipient(RECIPIENT));
    storage.encryption =
        Some(EncryptionView { recipients: vec![recipient(RECIPIENT)], passphrase, of_passphrase, proof });
}

fn open_advanced(model: &mut Model) {
    while form(model).focus != Item::Advanced {
        press(model, "Tab");
    }
    press(model, "Enter");
}

/// The form of a storage that encrypts to a passphrase, with the cursor at it.
fn at_the_passphrase() -> Model {
    let mut model = with(SIZE, |s| encrypts(s, true, Some(Proof::Given)));
    keys(&mut model, "3 e");
    open_advanced(&mut model);
    to_row(&mut model, "encrypt_passphrase");
    model
}

/// Ctrl-T, and the test passes; gives the number under which what the location holds is asked for.
fn test_alone(model: &mut Model) -> u64 {
    let effects = press(model, "Ctrl-T");
    let effects = tested(model, &effects, &[]);
    let [Effect::ReadHoldings { ticket, .. }] = &effects[..] else { panic!("{effects:?}") };
    *ticket
}

#[test]
fn the_form_shows_what_the_location_holds() {
    for size in [SIZE, (160, 50)] {
        let mut model = filled();
        model.size = size;
        let ticket = test_alone(&mut model);
        assert!(shown(&model).contains("reading what it holds"), "{}", shown(&model));
        let day = |days: i64| Some(now() - chrono::TimeDelta::days(days));
        let backups = vec![(day(9), 400_000_000), (day(2), 500_000_000), (day(40), 600_000_000), (None, 7_000_000)];
        let held = Holdings { backups, incomplete: 1, unreadable: 0, is_part: false };
        reply_to_key(&mut model, Reply::HoldingsRead { ticket, result: Ok(held) });
        let text = shown(&model);
        let span = "It holds 4 backups, 1.5 GB, from 12 Oct 16:02 to 19 Nov 15:02; 1 incomplete";
        assert!(text.contains(span), "{text}");
        assert!(text.contains("█  900 MB in the last 30 days"), "{text}");
        assert!(text.contains("1 backup, 7.0 MB: nothing says when it was made"), "{text}");
    }
    let mut model = filled();
    let ticket = test_alone(&mut model);
    reply_to_key(&mut model, Reply::HoldingsRead { ticket, result: Ok(Holdings::default()) });
    assert!(shown(&model).contains("It holds no backup yet"), "{}", shown(&model));
    // Of another location nothing is said.
    type_text(&mut model, "2");
    assert!(!shown(&model).contains("It holds"), "{}", shown(&model));
    let mut model = filled();
    let ticket = test_alone(&mut model);
    let part = Holdings { is_part: true, ..Holdings::default() };
    reply_to_key(&mut model, Reply::HoldingsRead { ticket, result: Ok(part) });
    assert!(shown(&model).contains("more than could be looked at in 20 s"), "{}", shown(&model));
    let mut model = filled();
    let ticket = test_alone(&mut model);
    let problem = Problem { kind: ErrorKind::Denied, field: None, message: "access denied".into(), hint: None };
    reply_to_key(&mut model, Reply::HoldingsRead { ticket, result: Err(problem) });
    assert!(shown(&model).contains("! what it holds cannot be read: access denied"), "{}", shown(&model));
}

#[test]
fn the_form_of_an_edit_shows_what_is_known_of_it() {
    let mut model = with(SIZE, |_| {});
    keys(&mut model, "3 j e");
    let text = shown(&model);
    assert!(text.contains("It holds 3 backups, 1.5 GB, from 12 Nov 14:23 to 21 Nov 03:03"), "{text}");
    assert!(text.contains("1.5 GB in the last 30 days"), "{text}");
}

#[test]
fn the_proof_stands_beside_the_recipients() {
    let mut model = filled();
    assert!(!shown(&model).contains("Proof"), "{}", shown(&model));
    to_row(&mut model, "encrypt_to");
    type_text(&mut model, RECIPIENT);
    let text = shown(&model);
    let line =
        |what: &str| text.lines().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {text}"));
    assert_eq!(line("Encrypt to") + 1, line("Proof"), "{text}");
    press(&mut model, "Tab");
    let text = shown(&model);
    assert!(text.contains("without it no backup") && text.contains("loses the backups"), "{text}");
}

#[test]
fn a_storage_without_its_proof_is_saved_by_who_says_so() {
    for tests_first in [false, true] {
        let mut model = filled();
        put(&mut model, "encrypt_to", RECIPIENT);
        if tests_first {
            test_alone(&mut model);
            assert!(press(&mut model, "Ctrl-S").is_empty());
        } else {
            let effects = press(&mut model, "Ctrl-S");
            assert!(tested(&mut model, &effects, &[]).is_empty(), "it is asked about first");
        }
        let text = shown(&model);
        for part in ["Save it without the proof?", "no backup begins", "loses the", "backups: nobody"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Whoever goes back is where the proof is given.
        assert!(press(&mut model, "Enter").is_empty());
        assert_eq!(form(&model).focused().unwrap().field.key, "identity_file");
        let effects = keys(&mut model, "Ctrl-S Right Enter");
        assert!(matches!(&effects[..], [Effect::AddStorage(_)]), "{effects:?}");
        let mut saved = storage("disk", "filesystem", "/srv/backups");
        let recipients = vec![recipient(RECIPIENT)];
        saved.encryption = Some(EncryptionView { recipients, passphrase: false, of_passphrase: None, proof: None });
        reply(&mut model, Reply::StorageSaved(Ok(saved)));
        let said = &model.messages.back().unwrap().text;
        assert!(said.contains("no backup begins before an identity is shown") && said.contains("loses"), "{said}");
    }
    // With a proof nothing is asked.
    let mut model = filled();
    put(&mut model, "encrypt_to", RECIPIENT);
    put(&mut model, "identity_file", "/root/key.txt");
    let effects = press(&mut model, "Ctrl-S");
    assert!(is_saved(&tested(&mut model, &effects, &[])));
}

#[test]
fn an_edit_asks_for_the_proof_only_when_the_recipients_change() {
    let saves = |model: &mut Model| {
        let effects = press(model, "Ctrl-S");
        matches!(tested(model, &effects, &[])[..], [Effect::EditStorage(..)])
    };
    let mut model = with(SIZE, |s| encrypts(s, false, Some(Proof::Given)));
    keys(&mut model, "3 e");
    assert!(shown(&model).contains("Proof"), "{}", shown(&model));
    assert!(saves(&mut model));
    let mut model = with(SIZE, |s| encrypts(s, false, Some(Proof::Given)));
    keys(&mut model, "3 e");
    put(&mut model, "encrypt_to", OTHER);
    assert!(!saves(&mut model));
    assert!(shown(&model).contains("Save it without the proof?"), "{}", shown(&model));
    let mut model = with(SIZE, |s| encrypts(s, false, None));
    keys(&mut model, "3 e");
    assert!(!saves(&mut model), "it is missing still");
}

#[test]
fn a_passphrase_is_said_to_be_one() {
    for size in [SIZE, (160, 50)] {
        let mut model = with(size, |s| encrypts(s, true, Some(Proof::Given)));
        keys(&mut model, "3 Enter");
        let text = shown(&model).replace("\n                ", " ");
        assert!(text.contains("Encrypted to   a passphrase (its recipient is"), "{text}");
    }
    let model = at_the_passphrase();
    let text = shown(&model);
    assert!(text.contains("now stored: it stays while this is empty"), "{text}");
}

#[test]
fn clearing_what_was_typed_leaves_the_stored_secret_alone() {
    let mut model = at_the_passphrase();
    type_text(&mut model, "abc");
    // One more than there are letters, and a key that is held.
    keys(&mut model, "Backspace Backspace Backspace Backspace Backspace");
    let text = shown(&model);
    assert!(text.contains("now stored: it stays while this is empty") && !text.contains("Backspace removes"), "{text}");
    assert!(!form(&model).values().contains_key("encrypt_passphrase") && !form(&model).is_dirty());
    let effects = press(&mut model, "Ctrl-S");
    let saved = tested(&mut model, &effects, &[]);
    let [Effect::EditStorage(_, values)] = &saved[..] else { panic!("{saved:?}") };
    assert!(!values.contains_key("encrypt_passphrase"), "{values:?}");
    // The same after a paste; whoever comes back to the row can remove it.
    let mut model = at_the_passphrase();
    update(&mut model, Msg::Paste("abc".into()));
    keys(&mut model, "Ctrl-U Backspace");
    assert!(!form(&model).values().contains_key("encrypt_passphrase"));
    press(&mut model, "Tab");
    to_row(&mut model, "encrypt_passphrase");
    press(&mut model, "Backspace");
    assert_eq!(form(&model).values()["encrypt_passphrase"], [""]);
}

#[test]
fn a_held_backspace_marks_a_secret_once_and_delete_keeps_it() {
    for times in 1..=4 {
        let mut model = at_the_passphrase();
        for _ in 0..times {
            press(&mut model, "Backspace");
        }
        assert_eq!(form(&model).values()["encrypt_passphrase"], [""], "{times}");
        let text = shown(&model);
        assert!(text.contains("it is removed when you save; Delete keeps it"), "{text}");
        for _ in 0..times {
            press(&mut model, "Delete");
        }
        assert!(!form(&model).values().contains_key("encrypt_passphrase") && !form(&model).is_dirty());
        assert!(shown(&model).contains("now stored: it stays while this is empty"), "{}", shown(&model));
    }
}

/// What the question on top says.
fn asked(model: &Model) -> (&str, String) {
    match model.layers.last() {
        Some(Layer::Confirm(question)) => (question.title.as_str(), question.lines.join(" ")),
        other => panic!("no question on top: {other:?}"),
    }
}

#[test]
fn encryption_is_ended_only_by_who_says_so() {
    let without_passphrase = || {
        let mut model = at_the_passphrase();
        press(&mut model, "Backspace");
        model
    };
    let without_recipients = || {
        let mut model = with(SIZE, |s| encrypts(s, false, Some(Proof::Given)));
        keys(&mut model, "3 e");
        put(&mut model, "encrypt_to", "");
        model
    };
    for (key, mut model) in [("encrypt_passphrase", without_passphrase()), ("encrypt_to", without_recipients())] {
        let effects = press(&mut model, "Ctrl-S");
        assert!(tested(&mut model, &effects, &[]).is_empty(), "{key}: it is asked about first");
        assert!(shown(&model).contains("Save it without encryption?"), "{}", shown(&model));
        let (title, lines) = asked(&model);
        assert_eq!(title, "Save it without encryption?");
        assert!(lines.contains("The next backup is stored in plain text"), "{lines}");
        // Whoever goes back is where it was ended.
        assert!(press(&mut model, "Enter").is_empty(), "the harmless button comes first");
        assert_eq!(form(&model).focused().unwrap().field.key, key);
        let effects = keys(&mut model, "Ctrl-S Right Enter");
        let [Effect::EditStorage(name, values)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(name, "archive");
        assert_eq!(values[key], [""]);
        // Also when the catalogue says it before the answer is there.
        update(&mut model, Msg::Snapshot(Box::new(full_snapshot())));
        reply(&mut model, Reply::StorageSaved(Ok(storage("archive", "filesystem", "/srv/backups"))));
        let said = model.messages.back().unwrap();
        assert_eq!(said.level, Level::Warn, "{}", said.text);
        let next = "encrypts nothing from now on: the next backup is stored in plain text";
        assert!(said.text.contains(next), "{}", said.text);
    }
    // Whose test has failed is asked one question, which says both.
    let mut model = without_recipients();
    let effects = press(&mut model, "Ctrl-S");
    assert!(tested(&mut model, &effects, &["write"]).is_empty());
    assert!(press(&mut model, "Ctrl-S").is_empty());
    let (title, lines) = asked(&model);
    assert!(title.contains("did not pass its test") && lines.contains("in plain text"), "{title}: {lines}");
    // Another passphrase goes on encrypting, and what was never encrypted has nothing to lose.
    let mut model = at_the_passphrase();
    type_text(&mut model, "another passphrase");
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(tested(&mut model, &effects, &[])[..], [Effect::EditStorage(..)]));
    let mut model = filled();
    let effects = press(&mut model, "Ctrl-S");
    assert!(is_saved(&tested(&mut model, &effects, &[])));
    reply(&mut model, Reply::StorageSaved(Ok(storage("disk", "filesystem", "/srv/backups"))));
    assert_eq!(model.messages.back().unwrap().level, Level::Good);
}

#[test]
fn secrets_that_are_there_are_kept_or_removed_and_others_are_not_said_to_be() {
    let open = || {
        let mut model = with(SIZE, |s| {
            let stored = &mut s.storages.iter_mut().find(|s| s.name == "s3-eu").unwrap().stored_secrets;
            *stored = Some(vec!["secret_access_key".into(), "session_token".into()]);
        });
        keys(&mut model, "3 j e");
        open_advanced(&mut model);
        model
    };
    let mut model = open();
    to_row(&mut model, "sse_c_key");
    let text = shown(&model);
    assert!(
        text.contains("a lost one") && text.contains("loses the backups") && !text.contains("now stored"),
        "{text}"
    );
    to_row(&mut model, "session_token");
    let text = shown(&model);
    assert!(text.contains("now stored") && text.contains("Backspace removes it"), "{text}");
    assert!(!form(&model).values().contains_key("session_token"), "it is kept");
    press(&mut model, "Backspace");
    assert!(shown(&model).contains("removed when you save"), "{}", shown(&model));
    assert_eq!(form(&model).values()["session_token"], [""]);
    assert!(form(&model).is_dirty());
    press(&mut model, "Delete");
    assert!(!form(&model).values().contains_key("session_token") && !form(&model).is_dirty());
    // What is typed takes the place of it, and is no removal.
    press(&mut model, "Backspace");
    type_text(&mut model, "new");
    assert_eq!(form(&model).values()["session_token"], ["new"]);
    // One that was never there has nothing to remove.
    to_row(&mut model, "sse_c_key");
    press(&mut model, "Backspace");
    assert!(!form(&model).values().contains_key("sse_c_key"));
}

#[test]
fn hints_of_the_form_name_its_rows() {
    let mut model = with(SIZE, |_| {});
    keys(&mut model, "3 n Tab Right Tab");
    open_advanced(&mut model);
    to_row(&mut model, "sse_kms_key_id");
    let text = shown(&model);
    assert!(text.contains("with \"Encryption at rest\" aws:kms") && !text.contains("--sse"), "{text}");
    // All of them, and what the client says of them.
    let rows = form(&model).rows.clone();
    for row in &rows {
        let said = mongokeep::tui::forms::in_words(form(&model), &row.help());
        assert!(!said.contains("--"), "{}: {said}", row.field.key);
    }
}

#[test]
fn reason_and_hint_of_a_failed_test_are_whole_on_a_small_screen() {
    let mut model = filled();
    let effects = press(&mut model, "Ctrl-T");
    let [Effect::TestDraft { ticket, .. }] = &effects[..] else { panic!("{effects:?}") };
    let hint = "check the secret key, and that the clock of this machine is right";
    let reason = "writing s3://acme-backups/prod/.mongokeep-probe-2b9d1f0a9c5e4b7d/probe in \
                  http://127.0.0.1:9000: SignatureDoesNotMatch: The request signature we calculated does not match the \
                  signature you provided. Check your key and signing method.";
    let step = |id: &str, ok: bool| TestStep {
        id: id.into(),
        ok,
        detail: if ok { String::new() } else { format!("{reason} ({hint})") },
        seconds: 0.1,
        remedy: None,
        hint: (!ok).then(|| hint.to_owned()),
    };
    let steps = vec![step("resolve", true), step("connect", true), step("list", true), step("write", false)];
    reply_to_key(&mut model, Reply::StorageTested { name: draft_name(*ticket), result: Ok(steps) });
    let text = shown(&model);
    assert!(text.contains("signing method.") && text.contains("✗ write: writing"), "{text}");
    assert!(text.contains(hint) && !text.contains(&format!("({hint}")), "{text}");
}

#[test]
fn what_is_wrong_with_a_proof_can_be_read_whole_on_a_small_screen() {
    let mut model = filled();
    put(&mut model, "encrypt_to", RECIPIENT);
    put(&mut model, "identity_file", "/nowhere/key.txt");
    let effects = press(&mut model, "Ctrl-S");
    tested(&mut model, &effects, &[]);
    let message = format!(
        "identity_file: storage disk is encrypted to {RECIPIENT}, and its identity cannot be read: the identity file \
         /nowhere/key.txt cannot be read: No such file or directory (os error 2)"
    );
    let hint = "mongokeep reads it as the user who runs the daemon";
    let problem = Problem {
        kind: ErrorKind::Unauthenticated,
        field: Some("identity_file".into()),
        message,
        hint: Some(hint.to_owned()),
    };
    reply(&mut model, Reply::StorageSaved(Err(problem)));
    let text = shown(&model);
    assert!(text.contains(RECIPIENT) && text.contains("No such file or directory"), "{text}");
    assert!(text.contains(hint) && !text.contains(&format!("✗ {hint}")), "a hint is not what went wrong: {text}");
}
