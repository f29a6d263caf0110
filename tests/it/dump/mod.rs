mod changes;
mod documents;
mod failures;
mod reinserted;
mod storing;
