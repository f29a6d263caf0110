//! The words of PBM that decide something: the status of an operation, the role of a node.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// Declares an enum of PBM's words. A word that is none of them is kept as it is.
macro_rules! pbm_words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$of_value:meta])* $value:ident => $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of_value])* $value,)+
            /// A word that this version does not know.
            Unknown(String),
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$value,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl $name {
            /// As PBM says it. Text from outside.
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$value => $word,)+
                    Self::Unknown(word) => word,
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Not an option: a field that is missing would be one without a word.
                Ok(Self::from(String::deserialize(deserializer)?.as_str()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&crate::domain::text::escape(self.word()))
            }
        }
    };
}

pbm_words! {
    /// How far an operation is, of the whole, of a replica set or of a node.
    pub enum Status {
        Init => "init",
        Ready => "ready",
        Starting => "starting",
        CleanupCluster => "cleanupCluster",
        Running => "running",
        DumpDone => "dumpDone",
        CopyReady => "copyReady",
        CopyDone => "copyDone",
        /// Of a node that stopped its server for a physical restore.
        Down => "down",
        PartlyDone => "partlyDone",
        Done => "done",
        Canceled => "canceled",
        Error => "error",
    }
}

impl Status {
    /// Nothing comes after it. A word that is not known is not final.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::PartlyDone | Self::Done | Self::Canceled | Self::Error)
    }

    /// Only `done` is.
    pub fn is_good(&self) -> bool {
        *self == Self::Done
    }
}

pbm_words! {
    /// What a node is in its replica set.
    #[derive(Default)]
    pub enum Role {
        /// Nobody knows: no agent says it.
        #[default]
        Unsaid => "",
        Primary => "P",
        Secondary => "S",
        Arbiter => "A",
        Hidden => "H",
        Delayed => "D",
    }
}

impl Role {
    /// For people. An unexpected state is shown as PBM says it.
    pub fn in_words(&self) -> String {
        match self {
            Self::Unsaid => "role unknown".to_owned(),
            Self::Primary => "primary".to_owned(),
            Self::Secondary => "secondary".to_owned(),
            Self::Arbiter => "arbiter".to_owned(),
            Self::Hidden => "hidden".to_owned(),
            Self::Delayed => "delayed".to_owned(),
            Self::Unknown(_) => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each by name, so that a new one cannot be forgotten.
    #[test]
    fn only_done_is_good_and_an_unknown_word_is_neither_good_nor_an_end() {
        let words = [
            "init",
            "ready",
            "starting",
            "cleanupCluster",
            "running",
            "dumpDone",
            "copyReady",
            "copyDone",
            "down",
            "partlyDone",
            "done",
            "canceled",
            "error",
            "lastTS",
            "",
        ];
        for word in words {
            let status = Status::from(word);
            assert_eq!(status.word(), word);
            let (is_final, is_good) = match &status {
                Status::Done => (true, true),
                Status::PartlyDone | Status::Canceled | Status::Error => (true, false),
                Status::Init | Status::Ready | Status::Starting | Status::CleanupCluster | Status::Running => {
                    (false, false)
                }
                Status::DumpDone | Status::CopyReady | Status::CopyDone | Status::Down => (false, false),
                Status::Unknown(text) => {
                    assert!(text == word && ["lastTS", ""].contains(&word));
                    (false, false)
                }
            };
            assert_eq!((status.is_final(), status.is_good()), (is_final, is_good), "{word}");
        }
    }

    #[test]
    fn unknown_words_are_shown_as_they_came() {
        assert_eq!(serde_json::from_str::<Status>("\"do\\u001bne\"").unwrap().to_string(), "do\\u{1b}ne");
        assert_eq!(Role::from("RECOVERING").in_words(), "RECOVERING");
        assert!(serde_json::from_str::<Status>("null").is_err());
    }
}
