//! The commented example of `config.toml` is what it says: every setting, with its default.

use std::path::Path;

use mongokeep::config::Settings;
use mongokeep::domain::fields::SETTING_FIELDS;

#[test]
fn the_example_holds_every_setting_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/config.example.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let settings = Settings::parse(&path, &text).unwrap();
    assert_eq!(settings.warnings, Vec::<String>::new());
    let document: toml_edit::DocumentMut = text.parse().unwrap();
    for field in SETTING_FIELDS {
        let item = field.key.split('.').try_fold(document.as_item(), |item, part| item.get(part));
        assert!(item.is_some(), "{} is not in the example", field.key);
        assert_eq!(settings.get(field.key).unwrap(), field.default, "{}", field.key);
    }
}
