//! Settings in a configuration of PBM, by the keys that lead to them.

use serde_json::{Map, Value};

use crate::domain::text::escape;

/// The keys that lead to a setting. Names of nodes have dots, so that a path is no text.
pub type Path = Vec<String>;

/// Every setting, with its path. Sections without one are left out.
pub fn flattened(map: &Map<String, Value>) -> impl Iterator<Item = (Path, Value)> {
    let mut out = Vec::new();
    let mut open: Vec<(Path, &Map<String, Value>)> = vec![(Vec::new(), map)];
    while let Some((before, map)) = open.pop() {
        for (key, value) in map {
            let path: Path = before.iter().cloned().chain([key.clone()]).collect();
            match value {
                Value::Object(map) => open.push((path, map)),
                Value::Null => {}
                value => out.push((path, value.clone())),
            }
        }
    }
    out.into_iter()
}

/// Sets a value, making the sections that lead to it.
pub fn set(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(map.insert(key.clone(), value)),
        [key, rest @ ..] => {
            let section = map.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
            if !section.is_object() {
                *section = Value::Object(Map::new());
            }
            if let Value::Object(section) = section {
                set(section, rest, value);
            }
        }
    }
}

pub fn value_at<'a>(map: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(map.get(first)?, |value, key| value.get(key))
}

/// Takes a value out.
pub fn remove(map: &mut Map<String, Value>, path: &[String]) -> Option<Value> {
    match path {
        [] => None,
        [key] => map.remove(key),
        [key, rest @ ..] => remove(map.get_mut(key)?.as_object_mut()?, rest),
    }
}

/// A path for people: `storage.s3.bucket`, `backup.priority["h:27017"]`.
pub fn dotted(path: &[String]) -> String {
    let mut out = String::new();
    for key in path {
        if key.contains(['.', ':', '"', ' ']) {
            out.push_str(&format!("[\"{}\"]", escape(key)));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&escape(key));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_set_found_and_taken_out() {
        let path: Path = ["a", "b", "c.d:1"].map(str::to_owned).into();
        let mut map = Map::new();
        map.insert("a".into(), json!(1));
        set(&mut map, &path, json!(2));
        assert_eq!((value_at(&map, &path), dotted(&path).as_str()), (Some(&json!(2)), "a.b[\"c.d:1\"]"));
        set(&mut map, &["x".to_owned()], json!({"empty": {}, "null": null, "list": [1]}));
        let flat: Vec<String> = flattened(&map).map(|(path, value)| format!("{}={value}", dotted(&path))).collect();
        assert_eq!(flat.len(), 2);
        assert!(flat.contains(&"x.list=[1]".to_owned()), "{flat:?}");
        assert_eq!(remove(&mut map, &path), Some(json!(2)));
        assert_eq!((remove(&mut map, &path), remove(&mut map, &["y".to_owned(), "z".to_owned()])), (None, None));
    }
}
