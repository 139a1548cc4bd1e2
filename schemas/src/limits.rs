//! The bounds of everything on the wire, in bytes unless the name says otherwise.

/// A whole event, envelope included.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;
/// A `carry` event, which holds one whole catalog entry.
pub const CARRY_BYTES_MAX: usize = 96 * 1024;
/// A heartbeat or a mark.
pub const HEARTBEAT_BYTES_MAX: usize = 1024;
/// A pulse; a larger one is split by range.
pub const PULSE_BYTES_MAX: usize = 64 * 1024;
/// The body of a query or of an agent verb.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// A name after percent-encoding.
pub const TOKEN_BYTES_MAX: usize = 128;
/// A namespace or a subject prefix.
pub const NAMESPACE_BYTES_MAX: usize = 32;
/// An event's id.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Endpoints of one instance, in number.
pub const ENDPOINTS_MAX: usize = 64;
/// Tags of one instance, in number.
pub const TAGS_MAX: usize = 64;
/// One tag.
pub const TAG_BYTES_MAX: usize = 128;
/// Metadata entries of one instance, in number.
pub const METADATA_MAX: usize = 64;
/// One metadata key.
pub const METADATA_KEY_BYTES_MAX: usize = 128;
/// One metadata value.
pub const METADATA_VALUE_BYTES_MAX: usize = 1024;
/// Checks of one instance, in number.
pub const CHECKS_MAX: usize = 64;
/// A check's output.
pub const CHECK_OUTPUT_BYTES_MAX: usize = 1024;
/// An instance's version.
pub const VERSION_BYTES_MAX: usize = 128;
/// Free text: a reason, who, why, a host, a scheme.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The shortest lease, in milliseconds.
pub const TTL_MS_MIN: u64 = 1_000;
/// The longest lease, in milliseconds.
pub const TTL_MS_MAX: u64 = 3_600_000;
/// The largest sequence, revision, counter and generation: what every JSON reader holds exactly.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// How far ahead of stream time an incarnation may lie, in milliseconds.
pub const INCARNATION_AHEAD_MS_MAX: i64 = 24 * 3_600 * 1_000;
/// Metadata keys that begin with this are Muster's own.
pub const METADATA_RESERVED: &str = "muster.";
