//! What is said in a form, in the words of the form: the text that comes with a field or an error names flags of the
//! command line, and nobody can type one here.

use crate::domain::fields::SETTING_FIELDS;
use crate::tui::form::Form;

/// The value of a flag that stands for a file that a person has.
const FILE: &str = "FILE";

/// `text` with the names of rows instead of flags. A command is not touched, but for one that does what a row does.
pub fn in_words(form: &Form, text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::new();
    let (mut at, mut is_command) = (0, false);
    while let Some(word) = words.get(at) {
        let said = match (&words[at..], is_command) {
            (["mongokeep", "settings", "set", key, value, ..], _) => setting(key, value).map(|said| (said, 5)),
            (["mongokeep", "storage" | "service", "edit", _, flag, value, ..], _) => {
                let (value, end) = with_end(value);
                label(form, flag).map(|(label, _)| (format!("set {label} to {value}{end}"), 6))
            }
            ([flag, value, ..], false) if with_end(value).0 == FILE => {
                label(form, flag).map(|(label, _)| (format!("{label}{}", with_end(value).1), 2))
            }
            ([flag, ..], false) => label(form, flag).map(|(label, end)| (format!("{label}{end}"), 1)),
            _ => None,
        };
        let (said, taken) = said.unwrap_or_else(|| ((*word).to_owned(), 1));
        is_command = match taken {
            1 => (is_command || *word == "mongokeep") && with_end(word).1.is_empty(),
            _ => false,
        };
        out.push(said);
        at += taken;
    }
    out.join(" ")
}

/// A word, and the punctuation after it.
fn with_end(word: &str) -> (&str, &str) {
    let bare = word.trim_end_matches([',', ';', '.', ':', ')', '?']);
    word.split_at(bare.len())
}

/// The label of the row that a flag stands for, in quotes, and the punctuation after the flag.
fn label<'a>(form: &Form, word: &'a str) -> Option<(String, &'a str)> {
    let (flag, end) = with_end(word);
    let flag = flag.strip_prefix("--")?;
    let is_it = |row: &&crate::tui::form::Row| row.field.flag() == flag || row.field.name() == flag;
    // Several types of storages may have a row of one key.
    let row = form.rows.iter().filter(|row| form.applies(row)).find(is_it).or_else(|| form.rows.iter().find(is_it))?;
    Some((format!("\"{}\"", row.field.label), end))
}

/// The setting that a file of a person is put into.
fn setting(key: &str, value: &str) -> Option<String> {
    let (value, end) = with_end(value);
    let field = SETTING_FIELDS.iter().find(|field| field.key == key).filter(|_| value == FILE)?;
    Some(format!("the setting \"{}\"{end}", field.label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::forms::add_storage;

    #[test]
    fn flags_are_named_as_the_rows_and_commands_stay() {
        let mut form = add_storage();
        form.row_mut("type").unwrap().set("s3");
        let said = |text: &str| in_words(&form, text);
        assert_eq!(
            said("id or ARN, with --sse aws:kms; empty: none"),
            "id or ARN, with \"Encryption at rest\" aws:kms; empty: none"
        );
        assert_eq!(said("is given besides --access-key-id; one"), "is given besides \"Access key\"; one");
        assert_eq!(said("is needed with --secret-access-key-file."), "is needed with \"Secret key\".");
        let give =
            "give it: --identity-file FILE, or mongokeep settings set encryption.identity_file FILE. Nothing was";
        let label = SETTING_FIELDS.iter().find(|f| f.key == "encryption.identity_file").unwrap().label;
        assert_eq!(said(give), format!("give it: \"Proof\", or the setting \"{label}\". Nothing was"));
        let mend = "not with auto: mongokeep storage edit s3 --checksums none";
        assert_eq!(said(mend), "not with auto: set \"Checksums\" to none");
        for same in
            ["mongokeep storage test a --identity-file", "see mongokeep backup create s --region x", "--unknown"]
        {
            assert_eq!(said(same), same);
        }
    }
}
