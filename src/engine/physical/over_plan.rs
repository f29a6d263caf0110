//! What a restore of files over a service would do, said before anything is written: by mongokeep, or by a person.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::exchange;
use super::local_member::{self, LocalMember};
use super::manifest::PhysicalManifest;
use super::mongod;
use super::plan::{self, Prepared};
use super::restore::with_hint;
use super::service_commands::{START_LIMIT, ServiceCommands};
use super::target_folder;
use crate::domain::command_line::quoted;
use crate::domain::restore::{PlannedFiles, RestorePlan, RestoreRequest};
use crate::domain::service::Service;
use crate::domain::text::escape;
use crate::engine::blocking::blocking;
use crate::engine::contract::RestoreSource;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::connect::CHECK_TIMEOUT;
use crate::mongo::{Server, sharding, topology};

/// What the service is now.
pub(super) struct Present {
    set: String,
    /// `host:port` of all members.
    members: Vec<String>,
    version: String,
    fcv: String,
    /// The member on this host; the error says why there is none.
    local: Result<LocalMember>,
}

/// A restore over a service that mongokeep carries out.
pub(super) struct Ready {
    pub commands: ServiceCommands,
    pub folder: PathBuf,
    /// What the member is called in its set's configuration, and where it is spoken to.
    pub host: String,
    pub address: String,
    pub prepared: Prepared,
}

/// Says what restoring `source` over `service` would do.
///
/// Errors: as [`crate::engine::contract::Engine::plan_restore`].
pub(super) async fn plan(
    cancel: &CancellationToken,
    source: &RestoreSource,
    service: &Service,
    request: &RestoreRequest,
) -> Result<RestorePlan> {
    whole(request)?;
    let manifest = plan::recoverable(source)?;
    let present = look(service, cancel).await?;
    same_series(&manifest, &present, service)?;
    let fcv = present.fcv.clone();
    let mut plan = match ready(&manifest, service, request, present).await? {
        Ok(ready) => ours(source, service, request, &ready)?,
        Err((why, present)) => by_hand(source, service, request, &manifest, &present, why).await?,
    };
    plan.to_service = service.name.clone();
    if fcv != manifest.fcv {
        plan.warnings.push(format!(
            "the feature compatibility version becomes {}, as it was; now it is {}",
            escape(&manifest.fcv),
            escape(&fcv)
        ));
    }
    Ok(plan)
}

/// Errors: `Invalid` for what selects documents.
fn whole(request: &RestoreRequest) -> Result<()> {
    let given = [
        (!request.include.is_empty(), "include"),
        (!request.rename.is_empty(), "rename"),
        (request.exact, "exact"),
        (request.no_ttl, "no-ttl"),
        (request.users_and_roles, "users-and-roles"),
    ];
    match given.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, field)) => Err(Error::invalid(
            field,
            "is for logical backups: files are restored as a whole, users and passwords included",
        )),
    }
}

pub(super) async fn look(service: &Service, cancel: &CancellationToken) -> Result<Present> {
    let server = Server::connect(&service.name, &service.uri, CHECK_TIMEOUT).await.map_err(|e| {
        with_hint(e, "while the service is down, restore into a folder (--to-data-dir DIR) and start the server there")
    })?;
    if server.hello().is_mongos {
        let what = format!("service {} is a sharded cluster", service.name);
        return Err(Error::new(ErrorKind::Unsupported, what).hint(sharding::INTO_A_CLUSTER));
    }
    sharding::require_no_part(&server, cancel).await?;
    let facts = topology::facts(&server, cancel).await?;
    let set = topology::replica_set(&server, cancel).await?;
    let local = match local_member::find(service, &server, cancel, &|_| {}).await {
        Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
        local => local,
    };
    Ok(Present {
        set: set.name.clone(),
        members: set.members.iter().map(|member| member.host.clone()).collect(),
        version: facts.version,
        fcv: facts.fcv.unwrap_or_default(),
        local,
    })
}

/// Errors: `Unsupported` when the service's program cannot open the files.
pub(super) fn same_series(manifest: &PhysicalManifest, present: &Present, service: &Service) -> Result<()> {
    if mongod::series(&manifest.server_version) == mongod::series(&present.version) {
        return Ok(());
    }
    let (name, of) = (escape(&manifest.name), escape(&manifest.server_version));
    let what = format!("service {} runs MongoDB {}, backup {name} is of {of}", service.name, escape(&present.version));
    Err(Error::new(ErrorKind::Unsupported, what).hint(
        "files of one series are opened by a mongod of the same: restore it into a folder, or restore a logical backup",
    ))
}

/// Whether mongokeep can do it: everything it needs for that, or why not.
pub(super) async fn ready(
    manifest: &PhysicalManifest,
    service: &Service,
    request: &RestoreRequest,
    present: Present,
) -> Result<std::result::Result<Ready, (String, Present)>> {
    let why = if present.members.len() > 1 {
        Some(format!(
            "its replica set {} has {} members, and each needs the files",
            escape(&present.set),
            present.members.len()
        ))
    } else if let Err(e) = &present.local {
        Some(e.full())
    } else {
        None
    };
    let (Some(commands), None) = (ServiceCommands::of(service), &why) else {
        let missing =
            || "it does not know how to stop and start the server (the service has no stop and start command)";
        return Ok(Err((why.unwrap_or_else(|| missing().to_owned()), present)));
    };
    let Present { set, members, local, version, fcv } = present;
    let local = local?;
    let folder = local.folder.clone();
    let obstacle = blocking("looking at a data folder", move || exchange::obstacle(&folder)).await?;
    if let Some(why) = obstacle {
        return Ok(Err((why, Present { set, members, version, fcv, local: Ok(local) })));
    }
    if local.options.directory_per_db != manifest.folder_options.directory_per_db
        || local.options.directory_for_indexes != manifest.folder_options.directory_for_indexes
    {
        let why = "the files lie otherwise than those of the service: directoryPerDB or directoryForIndexes differ, so that \
                   its program would not open them";
        return Err(
            Error::new(ErrorKind::Unsupported, why).hint("start the server with the options of the backup first")
        );
    }
    let mongod = plan::program(manifest, request).await?;
    let host = members.first().cloned().unwrap_or_default();
    let dir = exchange::copy_of(&local.folder);
    Ok(Ok(Ready {
        commands,
        host: host.clone(),
        address: local.reader.server.hosts().to_owned(),
        folder: local.folder,
        prepared: Prepared { manifest: manifest.clone(), mongod, dir, replica_set: set, members: vec![host] },
    }))
}

fn ours(source: &RestoreSource, service: &Service, request: &RestoreRequest, ready: &Ready) -> Result<RestorePlan> {
    let Ready { commands, folder, host, prepared, .. } = ready;
    let Prepared { manifest, mongod, replica_set, .. } = prepared;
    let (name, aside) = (escape(&service.name), exchange::set_aside(folder));
    let mut steps = plan::making_steps(source, prepared, !request.no_check);
    if let Some(first) = steps.first_mut() {
        first.push_str(&format!(", while {name} goes on"));
    }
    steps.extend([
        format!("make it the member {} of {}", escape(host), escape(replica_set)),
        format!("stop {name}: {}", escape(&commands.stop)),
        format!("set its files aside, into {}, and put the new ones in", escape(&aside.to_string_lossy())),
        format!("start it: {}", escape(&commands.start)),
        format!(
            "when it answers as the primary, remove the old files; when it does not within {} minutes, put them back and \
             start it with them",
            START_LIMIT.as_secs() / 60
        ),
    ]);
    let files = PlannedFiles {
        dir: folder.to_string_lossy().into_owned(),
        replaces: Some(aside.to_string_lossy().into_owned()),
        only_by_hand: None,
        mongod: mongod.path.to_string_lossy().into_owned(),
        mongod_version: mongod.version.clone(),
        replica_set: replica_set.clone(),
        members: prepared.members.clone(),
        files: manifest.files.len() as u64,
        bytes: plan::needed_bytes(source, manifest),
        free_bytes: target_folder::free_bytes(folder)?,
        steps,
        by_hand: vec!["users and passwords are those of the backup".to_owned()],
    };
    let mut plan = plan::of_files(source, manifest, files);
    plan.warnings.push(format!("{name} does not answer between its stop and its start"));
    Ok(plan)
}

/// The steps that a person does, on each host of the set.
async fn by_hand(
    source: &RestoreSource,
    service: &Service,
    request: &RestoreRequest,
    manifest: &PhysicalManifest,
    present: &Present,
    why: String,
) -> Result<RestorePlan> {
    let folder = match &present.local {
        Ok(local) => local.folder.to_string_lossy().into_owned(),
        Err(_) => "DBPATH".to_owned(),
    };
    let new = format!("{}.restored", folder.trim_end_matches('/'));
    let command = plan::into_folder_command(manifest, request, &new, &present.set, &present.members);
    let several = present.members.len() > 1;
    let (everywhere, servers) =
        if several { ("on the host of each member: ", "all members") } else { ("", "the server") };
    let mut steps = vec![format!("{everywhere}{command} --yes --wait")];
    if several {
        steps.push(format!(
            "or once, and copy {} to the other hosts before any of them is started (rsync -a)",
            escape(&new)
        ));
    }
    steps.extend([
        format!("stop {servers}"),
        format!("{everywhere}keep the old folder: mv {0} {0}.old", quoted(&folder)),
        format!("{everywhere}put the new one in its place: mv {} {}", quoted(&new), quoted(&folder)),
    ]);
    // What people keep in a data folder, such as a key file, a server may need to start.
    if let Ok(local) = &present.local
        && !local.listing.foreign.is_empty()
    {
        let names: Vec<String> =
            local.listing.foreign.iter().map(|name| quoted(&format!("{folder}.old/{name}")).to_string()).collect();
        steps.push(format!(
            "{everywhere}copy what is no data of the server, if it is still needed: cp -a {} {}",
            names.join(" "),
            quoted(&folder)
        ));
    }
    steps.extend([
        match several {
            true => format!("start {servers}; no member copies data from another"),
            false => format!("start {servers}"),
        },
        format!("when it serves: rm -r {}.old", quoted(&folder)),
    ]);
    let free = match &present.local {
        Ok(local) => target_folder::free_bytes(&local.folder)?,
        Err(_) => plan::needed_bytes(source, manifest),
    };
    let mut also = vec!["users and passwords are those of the backup".to_owned()];
    if service.stop_command.is_none() || service.start_command.is_none() {
        also.push(format!(
            "for one member on this host mongokeep does it, when it knows how: mongokeep service edit {} --stop-command \
             'systemctl stop mongod' --start-command 'systemctl start mongod'",
            service.name
        ));
    }
    let files = PlannedFiles {
        dir: folder.clone(),
        replaces: Some(format!("{folder}.old")),
        only_by_hand: Some(why),
        mongod: String::new(),
        mongod_version: present.version.clone(),
        replica_set: present.set.clone(),
        members: present.members.clone(),
        files: manifest.files.len() as u64,
        bytes: plan::needed_bytes(source, manifest),
        free_bytes: free,
        steps,
        by_hand: also,
    };
    Ok(plan::of_files(source, manifest, files))
}
