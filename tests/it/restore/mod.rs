mod kinds;
mod plan;
mod replay;
mod users;
mod versions;
