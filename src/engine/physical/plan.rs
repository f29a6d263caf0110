//! What restoring files would do, said before anything is written.

use std::path::{Path, PathBuf};

use super::manifest::PhysicalManifest;
use super::mongod::{self, Mongod};
use super::target_folder;
use crate::domain::command_line::quoted;
use crate::domain::restore::{DataFolder, PlannedFiles, RestorePlan, RestoreRequest};
use crate::domain::text::{bytes, count, escape};
use crate::engine::contract::RestoreSource;
use crate::error::{Error, ErrorKind, Result};

/// Where a member listens unless somebody says otherwise.
const DEFAULT_MEMBER: &str = "localhost:27017";
const DEFAULT_PORT: &str = "27017";

/// What a restore needs to know, found out for the plan and again before it is carried out.
pub(super) struct Prepared {
    pub manifest: PhysicalManifest,
    pub mongod: Mongod,
    pub dir: PathBuf,
    pub replica_set: String,
    pub members: Vec<String>,
}

/// Looks at backup, folder and program.
///
/// Errors: `Conflict` for a folder that is not empty; those of [`recoverable`] and [`mongod::find`].
pub(super) async fn prepare(source: &RestoreSource, folder: &DataFolder, request: &RestoreRequest) -> Result<Prepared> {
    let manifest = recoverable(source)?;
    let dir = PathBuf::from(&folder.dir);
    target_folder::must_be_empty(&dir)?;
    let mongod = program(&manifest, request).await?;
    let replica_set = folder.replica_set.clone().unwrap_or_else(|| manifest.replica_set.clone());
    let members = match folder.members.is_empty() {
        true => vec![DEFAULT_MEMBER.to_owned()],
        false => folder.members.clone(),
    };
    if let Some(twice) = members.iter().enumerate().find(|(n, member)| members[..*n].contains(member)) {
        return Err(Error::invalid("member", format!("{} is named twice", escape(twice.1))));
    }
    Ok(Prepared { manifest, mongod, dir, replica_set, members })
}

/// The program that recovers the files: the one that was named, or one that is found.
pub(super) async fn program(manifest: &PhysicalManifest, request: &RestoreRequest) -> Result<Mongod> {
    mongod::find(request.mongod.as_deref().map(Path::new), &manifest.server_version).await
}

/// What files are restored.
///
/// Errors: `Unsupported` for what cannot be recovered here, `Corrupt` for a damaged manifest, `Conflict` and `Invalid` for
/// recorded changes that do not follow it.
pub(super) fn recoverable(source: &RestoreSource) -> Result<PhysicalManifest> {
    let manifest: PhysicalManifest = source.manifest.body()?;
    manifest.must_be_possible()?;
    if manifest.folder_options.encrypted {
        let what = format!("backup {} holds files that the server encrypted", escape(&manifest.name));
        return Err(Error::new(ErrorKind::Unsupported, what).hint(
            "mongokeep backup export BACKUP --to DIR gives the files as they were; the server needs its key for them",
        ));
    }
    if let Some(tail) = &source.tail {
        follows(&manifest, tail)?;
    }
    Ok(manifest)
}

/// Errors: as [`crate::engine::logical::open_backup::OpenBackup::followed_by`].
fn follows(manifest: &PhysicalManifest, tail: &crate::engine::contract::OplogTail) -> Result<()> {
    let name = escape(&manifest.name);
    if tail.archive.replica_set_id != manifest.replica_set_id {
        let set = escape(&tail.archive.replica_set);
        let what = format!("backup {name} is of another replica set than the recorded oplog of {set}");
        return Err(Error::new(ErrorKind::Conflict, what).hint("choose a backup of the same replica set with --base"));
    }
    if tail.until < manifest.consistent_at_ts {
        return Err(Error::invalid("time", format!("{} is before the moment of backup {name}", tail.until)));
    }
    Ok(())
}

/// The plan of a restore into a folder.
pub(super) async fn plan(source: &RestoreSource, folder: &DataFolder, request: &RestoreRequest) -> Result<RestorePlan> {
    let prepared = prepare(source, folder, request).await?;
    let Prepared { manifest, mongod, dir, replica_set, members } = &prepared;
    let free = target_folder::free_bytes(dir)?;
    let members_shown = members.iter().map(|member| escape(member)).collect::<Vec<_>>().join(", ");
    let mut steps = making_steps(source, &prepared, !request.no_check);
    steps.push(format!("make it a member of the new replica set {} ({members_shown})", escape(replica_set)));
    let files = PlannedFiles {
        dir: dir.to_string_lossy().into_owned(),
        replaces: None,
        only_by_hand: None,
        mongod: mongod.path.to_string_lossy().into_owned(),
        mongod_version: mongod.version.clone(),
        replica_set: replica_set.clone(),
        members: members.clone(),
        files: manifest.files.len() as u64,
        bytes: needed_bytes(source, manifest),
        free_bytes: free,
        steps,
        by_hand: by_hand(&prepared, request),
    };
    Ok(of_files(source, manifest, files))
}

/// Bytes that a restore needs: those of the files, and those of the recorded changes that are put into the oplog.
pub(super) fn needed_bytes(source: &RestoreSource, manifest: &PhysicalManifest) -> u64 {
    let recorded = source.tail.iter().flat_map(|tail| &tail.slices).map(|slice| slice.uncompressed);
    recorded.fold(manifest.uncompressed_bytes, u64::saturating_add)
}

/// How the files are made whole, as sentences.
pub(super) fn making_steps(source: &RestoreSource, prepared: &Prepared, check: bool) -> Vec<String> {
    let Prepared { manifest, mongod, dir, .. } = prepared;
    let mut steps = vec![
        format!(
            "fetch {} files ({}) into {}, each block checked",
            count(manifest.files.len() as u64),
            bytes(manifest.uncompressed_bytes),
            escape(&dir.to_string_lossy())
        ),
        format!(
            "recover them to {} with {} (MongoDB {})",
            manifest.consistent_at_ts.in_words(),
            escape(&mongod.path.to_string_lossy()),
            mongod.version
        ),
    ];
    if let Some(tail) = &source.tail {
        let slices = tail.slices.len() as u64;
        let until = source.until().in_words();
        steps.push(format!("replay {} recorded slices of the oplog, to {until}", count(slices)));
    }
    if check {
        steps.push("start the copy once and look at every collection (validate)".to_owned());
    }
    steps
}

/// A plan of files, with a warning when they will not fit.
pub(super) fn of_files(source: &RestoreSource, manifest: &PhysicalManifest, files: PlannedFiles) -> RestorePlan {
    let (free, needed) = (files.free_bytes, files.bytes);
    let too_small =
        || format!("{} are free there, the files need {}: the restore will fail", bytes(free), bytes(needed));
    RestorePlan {
        backup: manifest.name.clone(),
        from_service: manifest.service.clone(),
        to_service: String::new(),
        point_in_time: None,
        consistent_at_ts: Some(source.until()),
        target_version: files.mongod_version.clone(),
        target_fcv: manifest.fcv.clone(),
        namespaces: Vec::new(),
        dropped: Vec::new(),
        untouched: Vec::new(),
        left_out: Vec::new(),
        users_and_roles: false,
        users_of: Vec::new(),
        safety_backup: None,
        warnings: (free < needed).then(too_small).into_iter().collect(),
        files: Some(files),
    }
}

/// What a person does afterwards: starts it, here and on the hosts of the other members.
fn by_hand(prepared: &Prepared, request: &RestoreRequest) -> Vec<String> {
    let Prepared { manifest, dir, replica_set, members, .. } = prepared;
    let mut words = format!("mongod --dbpath {} --replSet {}", quoted(&dir.to_string_lossy()), quoted(replica_set));
    let port = members.first().and_then(|member| member.rsplit_once(':')).map_or(DEFAULT_PORT, |(_, port)| port);
    if port != DEFAULT_PORT {
        words.push_str(&format!(" --port {port}"));
    }
    if manifest.folder_options.directory_per_db {
        words.push_str(" --directoryperdb");
    }
    if manifest.folder_options.directory_for_indexes {
        words.push_str(" --wiredTigerDirectoryForIndexes");
    }
    let mut out = vec![format!("start it: {words}")];
    if members.len() > 1 {
        let others = members.len() - 1;
        let others = if others == 1 { "the other member".to_owned() } else { format!("the other {others} members") };
        out.push(format!(
            "{others}: copy the folder to each host before it is started (rsync -a), or restore it there with the same \
             --replica-set and --member flags: {}",
            into_folder_command(manifest, request, "DIR", replica_set, members)
        ));
        out.push("start all of them; no member copies data from another".to_owned());
    }
    out.push("users and passwords are those of the backup".to_owned());
    out
}

/// The command that restores the same into the folder `dir`, for the same replica set.
pub(super) fn into_folder_command(
    manifest: &PhysicalManifest,
    request: &RestoreRequest,
    dir: &str,
    replica_set: &str,
    members: &[String],
) -> String {
    let folder =
        DataFolder { dir: dir.to_owned(), replica_set: Some(replica_set.to_owned()), members: members.to_vec() };
    let mut words = format!("mongokeep restore {} {}", quoted(&manifest.name), folder.flags());
    if let Some(moment) = &request.point_in_time {
        words.push_str(&format!(" --time {}", moment.when));
    }
    words
}
