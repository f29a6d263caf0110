//! The tables, one migration after the other. A migration that was released is never changed.
//!
//! Times are milliseconds since 1970, words are the snake_case words of the command-line contract. Secrets are in the
//! BLOB columns, encrypted.

use rusqlite_migration::{M, Migrations};

const STEPS: &[M<'_>] = &[
    M::up(
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

     CREATE TABLE services (
         name TEXT PRIMARY KEY,
         uri BLOB NOT NULL,
         uri_shown TEXT NOT NULL,
         cluster TEXT,
         engine TEXT NOT NULL,
         created_at INTEGER NOT NULL
     ) STRICT;

     CREATE TABLE storages (
         name TEXT PRIMARY KEY,
         config TEXT NOT NULL,
         secrets BLOB,
         created_at INTEGER NOT NULL,
         tested_at INTEGER,
         test_error TEXT
     ) STRICT;

     CREATE TABLE backups (
         name TEXT PRIMARY KEY,
         service TEXT NOT NULL,
         cluster TEXT,
         storage TEXT NOT NULL REFERENCES storages (name) ON UPDATE CASCADE,
         folder TEXT NOT NULL,
         engine TEXT NOT NULL,
         model TEXT NOT NULL,
         type TEXT NOT NULL,
         schedule TEXT,
         state TEXT NOT NULL,
         -- what to go back to when a delete is cancelled before it began
         state_before TEXT,
         pinned INTEGER NOT NULL DEFAULT 0,
         consistent_t INTEGER,
         consistent_i INTEGER,
         size_bytes INTEGER,
         uncompressed_bytes INTEGER,
         documents INTEGER,
         started_at INTEGER NOT NULL,
         finished_at INTEGER,
         server_version TEXT,
         fcv TEXT,
         compression TEXT NOT NULL,
         error TEXT,
         verified_at INTEGER,
         verify_error TEXT
     ) STRICT;
     CREATE INDEX backups_by_service ON backups (service, state);
     CREATE INDEX backups_by_storage ON backups (storage);

     CREATE TABLE jobs (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         kind TEXT NOT NULL,
         state TEXT NOT NULL,
         attempt INTEGER NOT NULL DEFAULT 0,
         service TEXT,
         storage TEXT,
         backup TEXT,
         schedule TEXT,
         -- the service that no other job may change or read whole meanwhile
         occupies TEXT,
         request TEXT NOT NULL,
         retry TEXT NOT NULL,
         attempt_id TEXT,
         -- the target of a restore may hold a part of what was to be written
         wrote INTEGER NOT NULL DEFAULT 0,
         progress TEXT NOT NULL DEFAULT '{\"bytes_done\":0,\"bytes_total\":0,\"objects_done\":0,\"objects_total\":0}',
         phase TEXT NOT NULL DEFAULT '',
         created_at INTEGER NOT NULL,
         started_at INTEGER,
         finished_at INTEGER,
         next_attempt_at INTEGER,
         error TEXT,
         hint TEXT,
         cancel_requested INTEGER NOT NULL DEFAULT 0
     ) STRICT;
     CREATE INDEX jobs_unfinished ON jobs (state) WHERE state IN ('queued', 'running', 'waiting_retry');
     CREATE INDEX jobs_by_backup ON jobs (backup);

     CREATE TABLE attempts (
         job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
         attempt INTEGER NOT NULL,
         attempt_id TEXT NOT NULL,
         started_at INTEGER NOT NULL,
         finished_at INTEGER,
         error TEXT,
         -- nothing of it is left in the storage, or all of it belongs there
         clean INTEGER NOT NULL DEFAULT 0,
         PRIMARY KEY (job, attempt)
     ) STRICT;

     CREATE TABLE job_log (
         job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
         seq INTEGER NOT NULL,
         at INTEGER NOT NULL,
         attempt INTEGER NOT NULL,
         level TEXT NOT NULL,
         message TEXT NOT NULL,
         PRIMARY KEY (job, seq)
     ) STRICT, WITHOUT ROWID;",
    ),
    M::up(
        "CREATE TABLE schedules (
         name TEXT PRIMARY KEY,
         service TEXT NOT NULL REFERENCES services (name) ON UPDATE CASCADE,
         storage TEXT NOT NULL REFERENCES storages (name) ON UPDATE CASCADE,
         folder TEXT NOT NULL,
         type TEXT NOT NULL,
         model TEXT NOT NULL,
         selection TEXT NOT NULL,
         -- NULL: the setting at the time of each run
         compression TEXT,
         cron TEXT NOT NULL,
         timezone TEXT NOT NULL,
         start INTEGER NOT NULL,
         retention TEXT NOT NULL,
         retry TEXT NOT NULL,
         enabled INTEGER NOT NULL,
         created_at INTEGER NOT NULL,
         -- every run that was due up to here was made, skipped or listed as missed
         decided_until INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX schedules_by_service ON schedules (service);

     -- when the run of a schedule was due
     ALTER TABLE jobs ADD COLUMN due_at INTEGER;
     CREATE INDEX jobs_by_schedule ON jobs (schedule, id) WHERE schedule IS NOT NULL;
     CREATE INDEX backups_by_schedule ON backups (schedule) WHERE schedule IS NOT NULL;

     -- HH:MM-HH:MM; NULL: the setting production_hours
     ALTER TABLE services ADD COLUMN production_hours TEXT;",
    ),
    M::up(
        "-- the retention job that began to delete it; NULL for one that a person deletes
     ALTER TABLE backups ADD COLUMN retired_by INTEGER;

     -- what somebody is to be told. Written by the transaction that makes it true, so that neither a crash nor a new
     -- way to end a job can lose it; a row goes when every channel was told or needs no telling
     CREATE TABLE outbox (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         -- JSON: a snapshot, because the job may be tried again before anybody was told
         facts TEXT NOT NULL,
         created_at INTEGER NOT NULL,
         command_done INTEGER NOT NULL DEFAULT 0,
         webhook_done INTEGER NOT NULL DEFAULT 0
     ) STRICT;
     CREATE TRIGGER jobs_ended AFTER UPDATE OF state ON jobs
     WHEN NEW.state IN ('succeeded', 'failed', 'skipped', 'missed') AND OLD.state IS NOT NEW.state
     BEGIN
         INSERT INTO outbox (facts, created_at) VALUES (
             json_object('what', 'job', 'job', NEW.id, 'kind', NEW.kind, 'state', NEW.state, 'attempt', NEW.attempt,
                 'service', NEW.service, 'storage', NEW.storage, 'backup', NEW.backup, 'schedule', NEW.schedule,
                 'due_at', NEW.due_at, 'error', NEW.error, 'hint', NEW.hint),
             coalesce(NEW.finished_at, NEW.created_at));
     END;
     -- what is wrong for as long as it lasts, so that it is told once
     CREATE TABLE conditions (
         kind TEXT NOT NULL,
         subject TEXT NOT NULL,
         since INTEGER NOT NULL,
         text TEXT NOT NULL,
         PRIMARY KEY (kind, subject)
     ) STRICT, WITHOUT ROWID;",
    ),
    M::up(
        "-- of the manifest; NULL: not known
     ALTER TABLE backups ADD COLUMN replica_set_id TEXT;
     -- it holds everything, so that every change after it can be replayed; NULL: not known
     ALTER TABLE backups ADD COLUMN whole INTEGER;

     -- where the oplog of a replica set is kept. What it and its slices say can be read from the storage again
     CREATE TABLE archives (
         id INTEGER PRIMARY KEY,
         service TEXT NOT NULL,
         storage TEXT NOT NULL REFERENCES storages (name) ON UPDATE CASCADE ON DELETE CASCADE,
         folder TEXT NOT NULL,
         replica_set TEXT NOT NULL,
         replica_set_id TEXT NOT NULL,
         -- what the keys of its slices have in common
         prefix TEXT NOT NULL,
         slices INTEGER NOT NULL DEFAULT 0,
         size_bytes INTEGER NOT NULL DEFAULT 0,
         -- seconds of the longest slice there ever was: one that holds a moment begins at most so long before it
         longest INTEGER NOT NULL DEFAULT 0,
         UNIQUE (service, storage, folder, replica_set, replica_set_id)
     ) STRICT;

     CREATE TABLE slices (
         id INTEGER PRIMARY KEY,
         archive INTEGER NOT NULL REFERENCES archives (id) ON DELETE CASCADE,
         name TEXT NOT NULL,
         after_t INTEGER NOT NULL,
         after_i INTEGER NOT NULL,
         after_term INTEGER NOT NULL,
         last_t INTEGER NOT NULL,
         last_i INTEGER NOT NULL,
         last_term INTEGER NOT NULL,
         entries INTEGER NOT NULL,
         operations INTEGER NOT NULL,
         size_bytes INTEGER NOT NULL,
         uncompressed_bytes INTEGER NOT NULL,
         data_offset INTEGER NOT NULL,
         blake3 TEXT NOT NULL,
         written_at INTEGER NOT NULL,
         -- JSON; NULL: none
         gap TEXT,
         marks TEXT,
         UNIQUE (archive, name)
     ) STRICT;
     CREATE INDEX slices_by_position ON slices (archive, after_t, after_i, last_t, last_i);
     CREATE INDEX slices_with_news ON slices (archive, after_t) WHERE gap IS NOT NULL OR marks IS NOT NULL;
     CREATE TRIGGER slices_added AFTER INSERT ON slices
     BEGIN
         UPDATE archives SET slices = slices + 1, size_bytes = size_bytes + NEW.size_bytes,
             longest = max(longest, NEW.last_t - NEW.after_t) WHERE id = NEW.archive;
     END;
     CREATE TRIGGER slices_removed AFTER DELETE ON slices
     BEGIN
         UPDATE archives SET slices = slices - 1, size_bytes = size_bytes - OLD.size_bytes WHERE id = OLD.archive;
     END;

     -- how many operations in which second, by slice: pairs of numbers of 32 bits. Apart, because few queries need them
     CREATE TABLE slice_counts (
         slice INTEGER PRIMARY KEY REFERENCES slices (id) ON DELETE CASCADE,
         counts BLOB NOT NULL
     ) STRICT;

     -- what the slices of an archive cover, put together: follows from them, and saves reading them
     CREATE TABLE coverage (
         archive INTEGER NOT NULL REFERENCES archives (id) ON DELETE CASCADE,
         after_t INTEGER NOT NULL,
         after_i INTEGER NOT NULL,
         after_term INTEGER NOT NULL,
         last_t INTEGER NOT NULL,
         last_i INTEGER NOT NULL,
         last_term INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX coverage_by_archive ON coverage (archive, after_t, after_i);

     -- what the slicer of a service last said of itself
     CREATE TABLE slicers (
         service TEXT PRIMARY KEY,
         running INTEGER NOT NULL,
         stored_t INTEGER,
         stored_i INTEGER,
         error TEXT,
         hint TEXT,
         at INTEGER NOT NULL
     ) STRICT;",
    ),
    M::up(
        "-- whether this home wrote it, once somebody looked: no other goes by retention
     ALTER TABLE slices ADD COLUMN own INTEGER;
     -- another daemon records this oplog
     ALTER TABLE slicers ADD COLUMN held INTEGER NOT NULL DEFAULT 0;

     -- services whose recording is of no use from this position on until there is a base after it
     CREATE TABLE bases_needed (
         service TEXT PRIMARY KEY,
         after_t INTEGER NOT NULL,
         after_i INTEGER NOT NULL,
         -- how often one was asked for, and when last
         tries INTEGER NOT NULL DEFAULT 0,
         asked_at INTEGER
     ) STRICT;",
    ),
    M::up(
        "-- a base that a gap or a restore asked for: no run of its schedule, though named after it
     ALTER TABLE jobs ADD COLUMN asked_for INTEGER NOT NULL DEFAULT 0;",
    ),
    M::up(
        "-- retention deletes its object, or has: no restore may count on it any more
     ALTER TABLE slices ADD COLUMN going INTEGER NOT NULL DEFAULT 0;
     CREATE INDEX slices_that_go ON slices (archive) WHERE going;",
    ),
    M::up(
        "-- physical backups: where the data folder of the member on this host is, and how that is stopped and started
     ALTER TABLE services ADD COLUMN data_dir TEXT;
     ALTER TABLE services ADD COLUMN stop_command TEXT;
     ALTER TABLE services ADD COLUMN start_command TEXT;
     -- bytes that were sent for it, where a part of it was there before; how long the server was locked for it
     ALTER TABLE backups ADD COLUMN new_bytes INTEGER;
     ALTER TABLE backups ADD COLUMN locked_millis INTEGER;",
    ),
    M::up(
        "-- what the engine of a service noted for itself
     ALTER TABLE services ADD COLUMN engine_note TEXT;
     -- what Percona Backup for MongoDB calls what it made for us
     ALTER TABLE backups ADD COLUMN pbm_name TEXT;",
    ),
    M::up(
        "-- what an engine that records the oplog by itself has of a service, as it said last, and whether it was switched on
     -- from here
     CREATE TABLE engine_recordings (
         service TEXT PRIMARY KEY,
         storage TEXT NOT NULL REFERENCES storages (name) ON UPDATE CASCADE ON DELETE CASCADE,
         folder TEXT NOT NULL,
         switched_on INTEGER NOT NULL,
         record TEXT NOT NULL,
         at INTEGER NOT NULL
     ) STRICT;",
    ),
    M::up(
        "-- whom it is encrypted to, as JSON; NULL: it is not encrypted
     ALTER TABLE backups ADD COLUMN recipients TEXT;
     ALTER TABLE slices ADD COLUMN recipients TEXT;",
    ),
    M::up(
        "-- a daemon that was stopped in order left it to the next one; what the engine calls what it began for this attempt
     ALTER TABLE jobs ADD COLUMN was_left INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE jobs ADD COLUMN engine_name TEXT;
     -- of a chain of increments: the first of it, and what this one is based on, by their names at PBM
     ALTER TABLE backups ADD COLUMN chain_base TEXT;
     ALTER TABLE backups ADD COLUMN chain_source TEXT;",
    ),
];

/// All migrations, oldest first.
pub const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// What `user_version` is after the last of them.
pub const LATEST: i64 = STEPS.len() as i64;

#[cfg(test)]
mod tests {
    #[test]
    fn migrations_are_valid() {
        super::MIGRATIONS.validate().unwrap();
    }
}
