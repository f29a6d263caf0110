mod cloud_faults;
mod clouds_whole;
mod conformance;
mod faults;
mod filesystem;
mod retry;
mod sync_altered;
