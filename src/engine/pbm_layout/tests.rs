//! On real backups of PBM (see `tests/fixtures/pbm_layout`), without a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open::open_stored;
use super::{read_manifest, verify};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::read::ReadOptions;
use crate::engine::Context;
use crate::engine::foreign::in_folder;
use crate::engine::logical::OpenBackup;
use crate::error::{ErrorKind, Result};
use crate::storage::Storage;
use crate::storage::filesystem::Filesystem;

fn fixture(which: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "pbm_layout", which].iter().collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

fn context() -> Context {
    Context::default()
}

async fn opened(folder: &Path, name: &str) -> Result<OpenBackup> {
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let manifest = read_manifest(&*storage, &BackupRoot::pbm("", name)?).await?;
    open_stored(storage, manifest, None).await
}

fn backups(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|n| n.strip_suffix(".pbm.json").map(str::to_owned)).collect();
    names.sort();
    names
}

async fn read(stored: &OpenBackup, object: &ObjectEntry) -> Result<Vec<u8>> {
    let mut documents = stored.documents(object, ReadOptions { check_structure: true, ..ReadOptions::default() })?;
    let mut bytes = Vec::new();
    while let Some(batch) = documents.next().await {
        bytes.extend_from_slice(batch?.bytes());
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_is_read_to_its_end() {
    for which in ["v2.15", "v2.0.1"] {
        let folder = fixture(which);
        for name in backups(&folder) {
            let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(&folder));
            let report = verify(&context(), storage, &BackupRoot::pbm("", &name).unwrap()).await.unwrap();
            // See the README there.
            let missed = report.problems.iter().filter(|p| p.what.contains("shop.became was renamed")).count();
            assert_eq!(report.problems.len(), missed, "{which} {name}: {report:?}");
            assert!(report.documents > 100 && missed == usize::from(name == "2026-11-29T21:57:59Z"), "{name}");
        }
    }
}

/// Cut off anywhere, with any compression, an object is not what PBM wrote.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_cut_off_is_found() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v2.15"), folder.path());
    for name in backups(folder.path()) {
        let stored = opened(folder.path(), &name).await.unwrap();
        let part =
            stored.manifest.collections.iter().find(|c| c.namespace.collection == "orders").unwrap().parts[0].clone();
        let path = folder.path().join(&name).join(&part.path);
        let whole = std::fs::read(&path).unwrap();
        let plain = read(&stored, &part).await.unwrap();
        assert_eq!(plain.len() as u64, part.uncompressed);
        for length in [0, 1, 5, 10, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            // What is listed now has that size, so that only the contents can tell.
            let cut = opened(folder.path(), &name).await.unwrap();
            let part =
                cut.manifest.collections.iter().find(|c| c.namespace.collection == "orders").unwrap().parts[0].clone();
            match read(&cut, &part).await {
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{name} at {length}"),
                Ok(_) => panic!("{name} at {length} of {}", whole.len()),
            }
        }
        // PBM cuts large objects into pieces.
        let third = whole.len() / 3;
        std::fs::write(&path, &whole[..third]).unwrap();
        for (number, piece) in [&whole[third..2 * third], &whole[2 * third..]].into_iter().enumerate() {
            let mut at = path.clone().into_os_string();
            at.push(format!(".pbmpart.{}", number + 1));
            std::fs::write(at, piece).unwrap();
        }
        let pieces = opened(folder.path(), &name).await.unwrap();
        let part =
            pieces.manifest.collections.iter().find(|c| c.namespace.collection == "orders").unwrap().parts[0].clone();
        assert_eq!(part.size, whole.len() as u64);
        assert_eq!(read(&pieces, &part).await.unwrap(), plain, "{name} in pieces");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_part_of_its_oplog_is_none() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v2.15"), folder.path());
    let name = &backups(folder.path())[0];
    let oplog = folder.path().join(name).join("rs0/oplog");
    std::fs::remove_dir_all(&oplog).unwrap();
    let error = opened(folder.path(), name).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.full().contains("lacks its oplog from"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_below_a_folder_is_found_there() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v2.15"), &folder.path().join("prod/pbm"));
    let storage = Filesystem::new(folder.path());
    assert!(in_folder(&storage, "", &[]).await.unwrap().0.is_empty());
    let (found, _) = in_folder(&storage, "prod/pbm", &[]).await.unwrap();
    let found = found[0].discover(&storage, "s", &|_, _| false).await.unwrap();
    assert_eq!(found.backups.len(), 7);
    for backup in &found.backups {
        let manifest = backup.read.as_ref().unwrap();
        assert_eq!((manifest.envelope.folder.as_str(), &manifest.envelope.name), ("prod/pbm", &backup.name));
        assert_eq!(manifest.envelope.replica_set_id, found.archives[0].archive.replica_set_id);
    }
    assert!(found.archives[0].slices.iter().all(|slice| slice.key.starts_with("prod/pbm/pbmPitr/rs0/")));
}
