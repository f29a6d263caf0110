mod cli;
mod cron;
mod scheduler;
mod store;
mod timeline;
