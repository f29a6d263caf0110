mod jobs;
mod store;
