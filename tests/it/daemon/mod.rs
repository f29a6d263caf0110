mod jobs;
mod kill;
mod secrets;
mod service;
mod sync;
