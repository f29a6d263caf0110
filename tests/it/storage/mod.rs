mod cloud_faults;
mod clouds_whole;
mod conformance;
mod faults;
mod filesystem;
mod retry;
mod s3_access;
mod sync_altered;
