//! Values that are one of a few words: on the command line, in forms, in JSON and in the store they read the same.

/// Declares an enum whose values have a word each, with `WORDS`, `word` and `FromStr`. A word that is not among them is an
/// error, never another value.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$of_value:meta])* $value:ident => $word:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$of_value])* #[serde(rename = $word)] $value),+
        }

        impl $name {
            /// Every word, in the order of the values.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// As it is written on the command line and in JSON.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$value),)+
                    _ => Err(format!("{} is not known", $crate::domain::text::quoted(word))),
                }
            }
        }
    };
}

pub(crate) use words;
