//! The configuration that PBM has: reading it and writing it.
//!
//! PBM takes a configuration with its secrets by file only without showing them to every user of the host. The file is
//! readable by its owner only, in a folder of the same sort, and is gone when PBM has read it.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::configuration::Configuration;
use super::failure::Reason;
use super::program::{ASK_LIMIT, Program, Reply, START_LIMIT};
use crate::engine::blocking::blocking;
use crate::error::{Error, ErrorKind, Result, io};

/// How long PBM may read a new storage, in its own words.
pub const RESYNC_WAIT: &str = "3m";
/// What PBM says before a failure of that: the configuration is written then.
const OF_RESYNC: &str = "waiting for resync";

/// The configuration that PBM has; `None`: it has none. Secrets are `***` in it.
///
/// Errors: what keeps PBM from answering.
pub async fn read(program: &Program, cancel: &CancellationToken) -> Result<Option<Value>> {
    let arguments = ["config"];
    match program.ask(&arguments, ASK_LIMIT, cancel).await? {
        Reply::Answer(answer) => Ok(Some(answer.parse("configuration")?)),
        Reply::Refused(refusal) if refusal.reason == Reason::Unconfigured => Ok(None),
        Reply::Refused(refusal) => Err(program.refused(&arguments, &refusal)),
    }
}

/// Gives PBM `ours`, and keeps what somebody else set. Returns what PBM has then. With another storage PBM reads what is in
/// it (`resync`), which is waited for; that fails, or takes longer than [`RESYNC_WAIT`], is no failure of writing.
///
/// Errors: `Conflict` while another operation runs, or when a secret of somebody else would be lost; `Invalid` and
/// `Unsupported` for what PBM does not take; `Failed` when PBM has another configuration afterwards.
pub async fn write(program: &Program, ours: &Configuration, cancel: &CancellationToken) -> Result<Value> {
    let merged = match read(program, cancel).await? {
        Some(read_back) => ours.merged(&read_back)?,
        None => ours.clone(),
    };
    let text = merged.exposed()?;
    let file = blocking("writing a configuration of PBM", move || PrivateFile::new(text.expose())).await?;
    let path = file.path.to_str().ok_or_else(|| Error::new(ErrorKind::Failed, "the temporary folder is no text"))?;
    let program = ours.secrets().fold(program.clone(), |program, secret| program.hiding(secret.clone()));
    let mut arguments = vec!["config", "--file", path];
    if program.offers("config", "--wait-time", cancel).await? {
        arguments.extend(["--wait", "--wait-time", RESYNC_WAIT]);
    }
    let written = match program.ask(&arguments, START_LIMIT, cancel).await {
        Ok(Reply::Refused(refusal)) if !refusal.text.contains(OF_RESYNC) => Err(program.refused(&arguments, &refusal)),
        Ok(_) => Ok(()),
        Err(e) => Err(e),
    };
    let removed = blocking("removing a configuration of PBM", move || file.remove()).await;
    written?;
    removed?;
    let now = read(&program, cancel).await?.unwrap_or_default();
    match merged.differences(&now).first() {
        None => Ok(now),
        Some(first) => {
            let what = format!("PBM took the configuration, and has another value for {} now", first.key);
            Err(Error::new(ErrorKind::Failed, what).hint("does somebody else change the configuration of PBM?"))
        }
    }
}

/// Changes single settings that are no secrets, and returns what PBM has then.
///
/// Errors: `Failed` when PBM has another value afterwards.
pub async fn set(program: &Program, settings: &[(&str, &str)], cancel: &CancellationToken) -> Result<Value> {
    let words: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments = vec!["config"];
    words.iter().for_each(|word| arguments.extend(["--set", word]));
    program.call(&arguments, START_LIMIT, cancel).await?;
    let now = read(program, cancel).await?.unwrap_or_default();
    for (key, value) in settings {
        let found = key.split('.').try_fold(&now, |at, part| at.get(part));
        let found =
            found.map_or_else(String::new, |found| found.as_str().map_or_else(|| found.to_string(), str::to_owned));
        let is_same_number = found.parse::<f64>().is_ok_and(|found| value.parse::<f64>() == Ok(found));
        // PBM leaves out what is false.
        let is_off = *value == "false" && found.is_empty();
        if found != **value && !is_same_number && !is_off {
            let what = format!("PBM took {key}={value}, and has another value now");
            return Err(Error::new(ErrorKind::Failed, what).hint("does somebody else change the configuration of PBM?"));
        }
    }
    Ok(now)
}

/// A file that only its owner can read. It goes when this is dropped.
pub(super) struct PrivateFile {
    folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl PrivateFile {
    /// Blocks.
    pub(super) fn new(text: &str) -> Result<Self> {
        let what = "writing a configuration of PBM to a temporary folder";
        let mut builder = tempfile::Builder::new();
        builder.prefix("mongokeep-pbm-").permissions(std::fs::Permissions::from_mode(0o700));
        let folder = builder.tempdir().map_err(|e| io(what, e))?;
        let path = folder.path().join("config.yaml");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| io(what, e))?;
        Ok(Self { folder, path })
    }

    /// Blocks. Errors: it is still there.
    pub(super) fn remove(self) -> Result<()> {
        self.folder.close().map_err(|e| io("removing a configuration of PBM from a temporary folder", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;
    use crate::domain::storage::StorageConfig;
    use crate::engine::pbm::configuration::Wishes;
    use crate::engine::pbm::tests::{StandIn, fixture};

    const URI: &str = "mongodb://127.0.0.1:29018/";

    fn ours() -> Configuration {
        let storage = StorageConfig::of("filesystem", [("path", "/srv/backup")]);
        Configuration::new(&storage, "prod", &Wishes::default()).unwrap()
    }

    #[test]
    fn the_file_is_private_and_goes() {
        let file = PrivateFile::new("{}").unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = file.path.clone();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        file.remove().unwrap();
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[tokio::test]
    async fn a_configuration_is_written_by_file_over_what_is_there() {
        let stand_in = StandIn::new();
        let now = r#"{"storage":{"type":"filesystem","filesystem":{"path":"/srv/backup/prod/pbm"}}}"#;
        stand_in.refuses("config", "noconf-noagent-config").answers(
            "config",
            "--file string --wait-time duration",
            "",
            0,
        );
        stand_in.answers("config", "", "Error: waiting for resync [opid \"1\"]: Operation is in progress.", 1);
        stand_in.answers("config", now, "", 0);
        let program = Program::new(&stand_in.path(), "prod", &Secret::new(URI));
        let cancel = CancellationToken::new();
        assert_eq!(write(&program, &ours(), &cancel).await.unwrap()["storage"]["type"], "filesystem");
        let calls = stand_in.calls();
        let file = calls.lines().nth(2).unwrap().strip_prefix("config --file ").unwrap();
        let file = file.strip_suffix(" --wait --wait-time 3m -o json").unwrap();
        assert!(!std::path::Path::new(file).exists());
    }

    /// Somebody else writes at the same time.
    #[tokio::test]
    async fn another_configuration_after_writing_is_an_error() {
        let stand_in = StandIn::new();
        stand_in.answers("config", &fixture("config-show"), "", 0);
        let program = Program::new(&stand_in.path(), "prod", &Secret::new(URI));
        let error = write(&program, &ours(), &CancellationToken::new()).await.unwrap_err();
        assert!(error.full().contains("storage.filesystem.path"), "{error}");
        let stand_in = StandIn::new();
        stand_in.refuses("config", "noconf-noagent-config").answers("config", "--file string", "", 0);
        stand_in.refuses("config", "config-file-while-running");
        let program = Program::new(&stand_in.path(), "prod", &Secret::new(URI));
        let error = write(&program, &ours(), &CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}
