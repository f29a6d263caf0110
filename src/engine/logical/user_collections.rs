//! Where the server keeps users and roles: in `admin`, for all databases.

use crate::mongo::oplog::entry::Op;

pub const USERS: &str = "system.users";
pub const ROLES: &str = "system.roles";

/// Users first: the merge takes both in this order.
pub const FOLLOWED: [&str; 2] = [USERS, ROLES];

/// Which of the two an operation changes.
pub fn collection_of(op: &Op<'_>) -> Option<usize> {
    FOLLOWED.iter().position(|name| op.ns.strip_prefix("admin.") == Some(name))
}

/// Whether an operation changes users or roles.
pub fn are_followed(op: &Op<'_>) -> bool {
    collection_of(op).is_some()
}
