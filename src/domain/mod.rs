//! What things are: values, their validation, their words. No I/O, no async, nothing of MongoDB's driver.

pub mod backup;
pub mod command_line;
pub mod cron;
pub mod due;
pub mod field;
pub mod fields;
pub mod hours;
pub mod job;
pub mod key;
pub mod local_time;
pub mod name;
pub mod namespace;
pub mod notification;
pub mod pitr;
pub mod restore;
pub mod retention;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod storage;
pub mod text;
pub mod timeline;
pub mod timestamp;
pub mod uri;
pub mod warning;
