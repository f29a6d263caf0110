//! What definitions may hold, and the releases that take it.

/// The first two numbers of a version.
pub type Release = (u32, u32);

/// The newest release whose options are all known. A newer one is asked for what it does not say it lacks.
pub(super) const NEWEST: Release = (7, 0);
/// The oldest release that is restored into.
pub(super) const OLDEST: Release = (4, 4);

/// Something that definitions hold, and the releases that take it.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) since: Release,
    pub(super) gone: Option<Release>,
    /// Where it is gone: what a person may do about it.
    pub(super) instead: &'static str,
}

const fn known(name: &'static str, since: Release) -> Known {
    Known { name, since, gone: None, instead: "" }
}

const fn gone(name: &'static str, gone: Release, instead: &'static str) -> Known {
    Known { name, since: OLDEST, gone: Some(gone), instead }
}

/// Options of collections that not every release takes.
pub(super) const COLLECTION_OPTIONS: [Known; 6] = [
    known("timeseries", (5, 0)),
    known("expireAfterSeconds", (5, 0)),
    known("clusteredIndex", (6, 0)),
    known("changeStreamPreAndPostImages", (6, 0)),
    known("encryptedFields", (6, 0)),
    gone("recordPreImages", (7, 0), "for change streams set changeStreamPreAndPostImages with collMod"),
];

/// All options of indexes. What is none of these was let in by servers before 3.4, and none checks or uses it.
pub(super) const INDEX_OPTIONS: [Known; 29] = [
    known("v", OLDEST),
    known("key", OLDEST),
    known("name", OLDEST),
    known("ns", OLDEST),
    known("_id", OLDEST),
    known("background", OLDEST),
    known("unique", OLDEST),
    known("dropDups", OLDEST),
    known("sparse", OLDEST),
    known("hidden", OLDEST),
    known("partialFilterExpression", OLDEST),
    known("expireAfterSeconds", OLDEST),
    known("storageEngine", OLDEST),
    known("collation", OLDEST),
    known("weights", OLDEST),
    known("default_language", OLDEST),
    known("language_override", OLDEST),
    known("textIndexVersion", OLDEST),
    known("2dsphereIndexVersion", OLDEST),
    known("bits", OLDEST),
    known("min", OLDEST),
    known("max", OLDEST),
    known("finestIndexedLevel", OLDEST),
    known("coarsestIndexedLevel", OLDEST),
    known("wildcardProjection", OLDEST),
    gone("bucketSize", (5, 0), "it belongs to geoHaystack indexes"),
    known("prepareUnique", (6, 0)),
    known("clustered", (6, 0)),
    known("originalSpec", (6, 0)),
];

/// Options of indexes that are numbers, and texts, where they are anything. Tried from 4.4.2 into 5.0.4 and 6.0.5.
pub(super) const NUMBERS: [&str; 7] =
    ["bits", "min", "max", "textIndexVersion", "2dsphereIndexVersion", "finestIndexedLevel", "coarsestIndexedLevel"];
pub(super) const TEXTS: [&str; 2] = ["default_language", "language_override"];

/// The kinds of indexes that their keys name.
pub(super) const INDEX_KINDS: [Known; 5] = [
    known("2d", OLDEST),
    known("2dsphere", OLDEST),
    known("hashed", OLDEST),
    known("text", OLDEST),
    gone("geoHaystack", (5, 0), "make a 2d index and ask with $geoNear"),
];

/// From here on `createIndexes` takes no flag that is neither a number nor true or false, and no weights but for texts.
pub(super) const STRICT: Release = (5, 0);
/// From here on "expires never" can be said (2147483647), and a capped collection has no index by which documents expire.
pub(super) const NEVER: Release = (6, 0);
pub(super) const NEVER_SECONDS: i32 = i32::MAX;
/// Storage of the type `lsm` is no longer made.
pub(super) const WITHOUT_LSM: Release = (7, 0);
/// The collections of an encrypted one must be called after it.
pub(super) const ENCRYPTED_BY_NAME: Release = (7, 0);
/// What a server before 5.0 makes of the size 0, which later ones refuse.
pub(super) const LEAST_SIZE: i64 = 4096;
