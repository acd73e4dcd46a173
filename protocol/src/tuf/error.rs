//! Every reason for which metadata is refused, one variant each, named for the attack or the fault.

/// Why metadata was refused, or why a question about it has no answer.
///
/// A refusal leaves what was trusted before untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Endless data: the message is longer than any metadata may be, or longer than its lister says.
    #[error("{role}: {found} bytes, at most {limit} are read")]
    TooLong {
        /// The role whose metadata this should be.
        role: String,
        /// The most that is read, in bytes.
        limit: u64,
        /// Length of the message in bytes.
        found: u64,
    },
    /// Mix-and-match: the length is not the one that signed metadata lists.
    #[error("{role}: {found} bytes, signed metadata lists {expected}")]
    WrongLength {
        /// The role or target.
        role: String,
        /// The listed length in bytes.
        expected: u64,
        /// The length found in bytes.
        found: u64,
    },
    /// Mix-and-match: a digest is not the one that signed metadata lists.
    #[error("{role}: its {algorithm} digest is not the one that signed metadata lists")]
    WrongDigest {
        /// The role or target.
        role: String,
        /// The algorithm, as metadata spells it.
        algorithm: String,
    },
    /// None of the listed digests is of a kind that can be checked.
    #[error("{role}: no listed digest is sha256 or sha512; sign it with one of them")]
    UnknownDigest {
        /// The role or target.
        role: String,
    },
    /// The message is not JSON.
    #[error("{role}: not JSON: {cause}")]
    NotJson {
        /// The role.
        role: String,
        /// What the parser says.
        cause: String,
    },
    /// A JSON object names a field twice, so that two readers could understand it differently.
    #[error("{role}: the field {field:?} stands twice in one object")]
    DuplicateField {
        /// The role.
        role: String,
        /// The field.
        field: String,
    },
    /// The signed part holds a number that canonical JSON does not know.
    #[error("{role}: the signed part holds a number that is not a 64-bit integer, so it has no canonical form")]
    NotCanonical {
        /// The role.
        role: String,
    },
    /// A field that the specification demands is absent or has a value it may not have.
    #[error("{role}: malformed: {cause}")]
    Malformed {
        /// The role.
        role: String,
        /// What is wrong.
        cause: String,
    },
    /// Metadata of one role was offered as that of another.
    #[error("{role}: metadata of type {expected:?} is needed, this is {found:?}")]
    WrongType {
        /// The role.
        role: String,
        /// The `_type` that the role needs.
        expected: String,
        /// The `_type` found.
        found: String,
    },
    /// The metadata is written for a specification with another major version.
    #[error("{role}: written for specification {found:?}, this client reads 1.x")]
    UnknownSpecVersion {
        /// The role.
        role: String,
        /// The `spec_version` found.
        found: String,
    },
    /// Two signatures name the same key id.
    #[error("{role}: two signatures name key {key_id}")]
    DuplicateSignature {
        /// The role.
        role: String,
        /// The key id.
        key_id: String,
    },
    /// Arbitrary software attack: too few of the role's keys signed this.
    #[error("{role}: {valid} of the keys trusted for it signed this, {threshold} must")]
    Threshold {
        /// The role.
        role: String,
        /// How many different trusted keys signed validly.
        valid: usize,
        /// How many must.
        threshold: u32,
    },
    /// Rollback attack: older than what was trusted before.
    #[error("{role}: version {found} is older than the trusted version {floor}")]
    Rollback {
        /// The role.
        role: String,
        /// The version that was trusted before.
        floor: u64,
        /// The version offered.
        found: u64,
    },
    /// Rollback attack: the lister names an older version of a role than it did before.
    #[error("{lister}: lists version {found} of {role}, but {floor} was listed before")]
    ListedRollback {
        /// The role whose metadata lists the other.
        lister: String,
        /// The listed role.
        role: String,
        /// The version listed before.
        floor: u64,
        /// The version listed now.
        found: u64,
    },
    /// Rollback attack: the snapshot no longer lists a role that it listed.
    #[error("snapshot: no longer lists {role}")]
    Unlisted {
        /// The role that disappeared.
        role: String,
    },
    /// Rollback attack on root: not the version after the trusted one.
    #[error("root: version {found} is offered where {expected} must follow")]
    NotNextRoot {
        /// The trusted version plus one.
        expected: u64,
        /// The version offered.
        found: u64,
    },
    /// Mix-and-match attack: not the version that its lister names.
    #[error("{role}: version {found}, but signed metadata lists version {expected}")]
    MixAndMatch {
        /// The role.
        role: String,
        /// The listed version.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// Freeze attack: expired when the refresh began. The text leaves the time out, so that the same refusal tells the same each
    /// time that it is met.
    #[error(
        "{role}: expired at {expires} (unix seconds) by this device's clock; publish newly signed metadata, or set the clock"
    )]
    Expired {
        /// The role.
        role: String,
        /// When it expired, in unix seconds.
        expires: i64,
        /// The time of the refresh, in unix seconds.
        now: i64,
    },
    /// The snapshot does not list this role, so no version of it can be trusted.
    #[error("{role}: delegated, but the snapshot does not list it")]
    NotListed {
        /// The role.
        role: String,
    },
    /// The role named as delegator delegates nothing to this role.
    #[error("{role}: {delegator} does not delegate to it")]
    NotDelegated {
        /// The role.
        role: String,
        /// The role that was said to delegate to it.
        delegator: String,
    },
    /// What must be trusted before this metadata is not there yet.
    #[error("{role}: {needs} must be trusted first")]
    OutOfOrder {
        /// The role.
        role: String,
        /// The role that must come before.
        needs: String,
    },
    /// A search or a refresh would visit more delegated roles than is allowed.
    #[error("more than {limit} delegated roles would be visited")]
    TooManyVisits {
        /// The most that are visited.
        limit: usize,
    },
    /// Endless work: the patterns and paths that are signed are so many and so long that a lookup would not end soon.
    #[error("a lookup would take more than {limit} steps; sign fewer or shorter patterns and paths")]
    TooMuchWork {
        /// The most steps that are taken.
        limit: u64,
    },
    /// The repository does not have metadata that a refresh needs.
    #[error("{role}: the repository does not have version {version:?} of it")]
    Unavailable {
        /// The role.
        role: String,
        /// The version that was asked for.
        version: Option<u64>,
    },
    /// A message arrived after the refresh was done.
    #[error("no metadata is awaited, the refresh is done")]
    NothingAwaited,
    /// The role's metadata was never loaded, so that a question about its targets has no answer.
    #[error("{role}: no trusted metadata is loaded; refresh first")]
    NotLoaded {
        /// The role.
        role: String,
    },
}
