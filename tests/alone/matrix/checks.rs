//! What the check says of servers that are set up in a way that no backup can be made of.

use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::CheckState;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::{check, dump};
use mongokeep::error::ErrorKind;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use crate::support::dumps::{self, Folder};

/// Before 5.0 majority reads can be switched off; then nothing says what a rollback can undo.
pub async fn majority_reads_that_are_off_are_named(ground: Ground) {
    let args = vec!["--enableMajorityReadConcern=false".to_owned()];
    let options = ReplicaSetOptions { args, ..ReplicaSetOptions::default() };
    let set = ReplicaSet::start(&ground.source.mongod, options).await.unwrap();
    let items = check("prod", &Secret::new(set.uri()), &CancellationToken::new()).await;
    let rights = items.iter().find(|i| i.id == "rights_backup").unwrap();
    assert_eq!(rights.state, CheckState::Fail, "{rights:?}");
    assert!(rights.detail.contains("enableMajorityReadConcern"), "{rights:?}");

    let folder = Folder::new();
    let (ctx, _) = dumps::context(Limits::default());
    let server = dumps::server(&set).await;
    let error = dump(&ctx, folder.storage.clone(), &server, &dumps::request("off")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "trying again does not help: {error:?}");
    assert!(error.hint_text().unwrap().contains("enableMajorityReadConcern"), "{error:?}");
}
