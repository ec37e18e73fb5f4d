//! The bounds of what a policy may hold, for the schema and for the operator, which checks stored objects again.

/// The lowest priority.
pub const MIN_PRIORITY: i32 = -1_000_000;
/// The highest priority.
pub const MAX_PRIORITY: i32 = 1_000_000;

/// Collectors in one policy.
pub const MAX_COLLECTORS: usize = 64;
/// Characters in a collector's name.
pub const MAX_COLLECTOR_NAME: usize = 63;
/// What a collector's name looks like.
pub const COLLECTOR_NAME: &str = "^[a-z][a-z0-9_]*$";
/// Options of one collector.
pub const MAX_OPTIONS: usize = 16;
/// Characters in an option's key.
pub const MAX_OPTION_KEY: usize = 63;
/// Characters in an option's value.
pub const MAX_OPTION_VALUE: usize = 8192;

/// Patterns in each of `metrics.include` and `metrics.exclude`.
pub const MAX_PATTERNS: usize = 64;
/// Characters in a pattern.
pub const MAX_PATTERN: usize = 512;

/// Keys in each list of `labels`.
pub const MAX_ADDED_LABELS: usize = 32;

/// Entries in each of `matchLabels` and `matchExpressions`.
pub const MAX_REQUIREMENTS: usize = 16;
/// Values of one requirement.
pub const MAX_VALUES: usize = 32;
/// Characters in a label's key: a DNS name, a slash and a name.
pub const MAX_LABEL_KEY: usize = 253 + 1 + 63;
/// What a label's key looks like.
pub const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                             [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Characters in a label's value.
pub const MAX_LABEL_VALUE: usize = 63;
/// What a label's value looks like.
pub const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// Nodes that a status names.
pub const MAX_EXAMPLES: usize = 10;
