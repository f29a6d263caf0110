mod changes;
mod documents;
mod failures;
mod reinserted;
