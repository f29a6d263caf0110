//! Where the server keeps users and roles: in `admin`, for all databases.

pub const USERS: &str = "system.users";
pub const ROLES: &str = "system.roles";
