//! What `pbm -o json` writes to its standard output, taken apart.
//!
//! `pbm` writes text for people before its JSON, on the same line even (`Waiting to finish...{"name": ...}`), and an answer
//! of another sort where it has nothing to say (`{"msg": "nothing to delete"}`). Errors stand there too.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// How far into a text something may look like JSON and be none. PBM writes its JSON on one line.
const LOOKAHEAD: usize = 4_096;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// The text for people that stood before it: the plan of a deletion, for example.
    pub before: String,
}

/// What stands on the standard output of `pbm`.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Answer(Answer),
    /// `{"Error": "..."}`: what failed.
    Refusal(String),
    /// No JSON: the text.
    Text(String),
    /// JSON that is cut off or damaged.
    Damaged,
}

impl Output {
    pub fn of(stdout: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stdout);
        let text = text.trim();
        let mut from = 0;
        while let Some(at) = text[from..].find(['{', '[']).map(|at| from + at) {
            let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    let end = at + values.byte_offset();
                    if text[end..].trim().is_empty() {
                        return Self::of_value(value, text[..at].trim());
                    }
                    from = end;
                }
                Some(Err(e)) if e.is_eof() || e.line() > 1 || e.column() > LOOKAHEAD => return Self::Damaged,
                _ => from = at + 1,
            }
        }
        // `list --restore` of a cluster that was never restored.
        match text.strip_suffix("null") {
            Some("") => Self::Answer(Answer { value: Value::Null, before: String::new() }),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn of_value(value: Value, before: &str) -> Self {
        if let Some(map) = value.as_object() {
            let alone = map.len() == 1 || map.contains_key("operation");
            let error = map.get("Error").or_else(|| map.get("error").filter(|_| alone));
            if let Some(error) = error {
                let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
                let operation = map.get("operation").map(|operation| format!(" {operation}")).unwrap_or_default();
                return Self::Refusal(format!("{text}{operation}"));
            }
        }
        let answer = Answer { value, before: before.to_owned() };
        // `pbm` was not confirmed, and ends well.
        match answer.message() {
            Some("canceled") => Self::Refusal("pbm did nothing: canceled".to_owned()),
            _ => Self::Answer(answer),
        }
    }
}

impl Answer {
    /// What `{"msg": ...}` says, if it is such an answer.
    pub fn message(&self) -> Option<&str> {
        let map = self.value.as_object().filter(|map| map.len() == 1)?;
        map.get("msg")?.as_str()
    }

    /// The answer as a `T`; `what` names it.
    ///
    /// Errors: `Transient` for a message instead of an answer, which PBM gives while it is busy; `Unsupported` for an answer
    /// of another form.
    pub fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        if let Some(message) = self.message() {
            let why = format!("pbm gave no {what}, but a message: {}", escape(message));
            return Err(Error::new(ErrorKind::Transient, why));
        }
        serde::Deserialize::deserialize(&self.value).map_err(|e: serde_json::Error| {
            let why = format!("pbm gave a {what} that this version does not understand");
            Error::new(ErrorKind::Unsupported, why).source(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::fixture;

    fn answer(name: &str) -> Answer {
        match Output::of(fixture(name).as_bytes()) {
            Output::Answer(answer) => answer,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn text_before_the_json_is_kept_and_is_none_of_it() {
        let restored = answer("restore-ns");
        assert_eq!(restored.value["name"], "2026-11-29T09:39:31.919457036Z");
        assert!(restored.before.starts_with("Started logical restore.") && restored.before.ends_with("..."));
        // `[size: ...]` and `[done]` are no JSON.
        let deleted = answer("delete-backup");
        assert_eq!(deleted.value["snapshots"].as_array().unwrap().len(), 5);
        assert!(deleted.before.ends_with("[done]"), "{}", deleted.before);
        let planned = answer("cleanup-dry-some");
        assert_eq!(planned.message(), Some(""));
        assert!(planned.before.contains("PITR chunks (by replset name):"));
    }

    #[test]
    fn errors_stand_on_the_standard_output_too() {
        for (name, said) in [
            ("unreachable", "server selection error"),
            ("via-mongos-status", "mongos connection is not supported"),
            // The exit code of these is 0.
            ("restore-no-yes", "canceled"),
            ("cleanup-no-yes-some", "canceled"),
        ] {
            match Output::of(fixture(name).as_bytes()) {
                Output::Refusal(text) => assert!(text.contains(said), "{name}: {text}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        let concurrent = br#"{"error": "another operation in progress", "operation": {"type": "backup"}}"#;
        assert_eq!(
            Output::of(concurrent),
            Output::Refusal("another operation in progress {\"type\":\"backup\"}".into())
        );
        // A field of an answer about something that failed is no failure of `pbm`.
        assert!(matches!(Output::of(fixture("agentdead-restore-describe").as_bytes()), Output::Answer(_)));
    }

    #[test]
    fn what_is_no_json_is_not_taken_for_an_answer() {
        assert!(
            matches!(Output::of(fixture("restore-no-yes-pipe").as_bytes()), Output::Text(text) if text.starts_with("Restore:"))
        );
        assert!(matches!(Output::of(fixture("version").as_bytes()), Output::Text(_)));
        assert_eq!(Output::of(b""), Output::Text(String::new()));
        assert_eq!(Output::of(b"{\"cluster\": [{\"rs\": "), Output::Damaged);
        assert_eq!(Output::of(br#"{"a": 1} and more"#), Output::Text(r#"{"a": 1} and more"#.into()));
        assert_eq!(answer("noconf-noagent-list-restore").value, Value::Null);
        assert_eq!(answer("noconf-noagent-logs").value, Value::Array(Vec::new()));
        assert!(matches!(Output::of(b"\xff\xfe [1, 2]"), Output::Answer(_)));
    }

    #[test]
    fn a_message_is_no_empty_answer() {
        let answer = Answer { value: serde_json::json!({"msg": "Storage resync is running."}), before: String::new() };
        let error = answer.parse::<Vec<u8>>("list").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.full().contains("resync is running"), "{error}");
    }
}
