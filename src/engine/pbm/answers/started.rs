//! What PBM answers when it was asked for something: it has only begun.

use serde::Deserialize;

use super::lenient::null_is_default;

/// `pbm backup`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StartedBackup {
    pub name: String,
    pub profile: Option<String>,
    #[serde(default, rename = "storagePath", deserialize_with = "null_is_default")]
    pub storage_path: String,
}

/// `pbm restore`. PBM chooses the name: it is all that leads to the restore afterwards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StartedRestore {
    pub name: String,
    pub snapshot: Option<String>,
    #[serde(rename = "point-in-time")]
    pub until: Option<String>,
}

/// `pbm config KEY`. The value of a key that is not set is empty. Beware: a secret stands in it in the clear.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ConfigValue {
    pub key: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::answer;

    #[test]
    fn names_are_read() {
        assert_eq!(answer::<StartedBackup>("backup-start").name, "2026-11-29T09:19:46Z");
        assert_eq!(answer::<StartedRestore>("restore-ask").snapshot.as_deref(), Some("2026-11-29T09:31:31Z"));
        // With `--wait` its JSON stands at the end of a line of dots; to a moment it names no backup.
        assert_eq!(answer::<StartedRestore>("restore-ns").name, "2026-11-29T09:39:31.919457036Z");
        assert_eq!(answer::<StartedRestore>("restore-pitr").snapshot, None);
        assert_eq!(answer::<ConfigValue>("config-key-unset").value, "");
        assert_eq!(answer::<Vec<ConfigValue>>("config-set")[0].value, "zstd");
    }
}
