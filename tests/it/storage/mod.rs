mod conformance;
mod faults;
mod filesystem;
mod retry;
mod sync_altered;
