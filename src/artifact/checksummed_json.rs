//! JSON that tells whether it is what was written: its last field, `checksum`, is the BLAKE3 of every byte before it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

const CHECKSUM_FIELD: &str = "  \"checksum\": \"";

/// `value`, an object with a field `format_version`, as sealed JSON.
pub fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Internal, "writing a description").source(e))?;
    // `{ ... \n}` becomes `{ ... ,\n  "checksum": "..."\n}`.
    let whole = text.strip_suffix("\n}").map(str::len);
    text.truncate(whole.ok_or_else(|| Error::new(ErrorKind::Internal, "a description is no object with fields"))?);
    text.push_str(",\n");
    let checksum = blake3::hash(text.as_bytes()).to_hex();
    text.push_str(CHECKSUM_FIELD);
    text.push_str(&checksum);
    text.push_str("\"\n}\n");
    Ok(text.into_bytes())
}

/// Reads and checks sealed JSON of at most format `version`; `place` names it in errors.
///
/// Errors: `Unsupported` for a newer format, `Corrupt` for anything else that is not what was written.
pub fn from_bytes<T: DeserializeOwned>(place: &str, bytes: &[u8], version: u32) -> Result<T> {
    let place = escape(place);
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, format!("the description {place} is damaged: {why}"))
            .hint("what it describes cannot be trusted; use another backup")
    };
    let text = std::str::from_utf8(bytes).map_err(|_| corrupt("not UTF-8"))?;
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    // The version comes first: a newer format may have another way of checking itself.
    if let Ok(found) = serde_json::from_str::<Version>(text)
        && found.format_version > version
    {
        let what = format!("{place} has format version {}, this program reads up to {version}", found.format_version);
        return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer mongokeep"));
    }
    let at = text.rfind(CHECKSUM_FIELD).ok_or_else(|| corrupt("no checksum"))?;
    let rest = &text[at + CHECKSUM_FIELD.len()..];
    let stated = rest.strip_suffix("\"\n}\n").ok_or_else(|| corrupt("truncated"))?;
    if blake3::hash(&bytes[..at]).to_hex().as_str() != stated {
        return Err(corrupt("its checksum does not match"));
    }
    serde_json::from_str(text).map_err(|e| corrupt("not what it should be").source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_an_object_comes_back() {
        for value in [
            serde_json::json!({"format_version": 1, "a": "}"}),
            serde_json::json!({"format_version": 1, "a": {"b": [{"c": {}}]}}),
            serde_json::json!({"format_version": 1, "a": {}}),
        ] {
            let bytes = to_bytes(&value).unwrap();
            let mut read: serde_json::Value = from_bytes("x.json", &bytes, 1).unwrap();
            assert!(read.as_object_mut().unwrap().remove("checksum").is_some());
            assert_eq!(read, value);
            let cut = from_bytes::<serde_json::Value>("x.json", &bytes[..bytes.len() - 5], 1);
            assert_eq!(cut.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert_eq!(to_bytes(&serde_json::json!({})).unwrap_err().kind(), ErrorKind::Internal);
    }
}
