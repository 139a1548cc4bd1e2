//! A point in the past, as people write it.

use muster_schemas::history::At;
use muster_schemas::{MinRevision, Timestamp};

/// Reads a revision, or a time.
pub(crate) fn parse(text: &str) -> Result<At, String> {
    if let Ok(revision) = text.parse::<u64>() {
        return Ok(At::Revision(MinRevision(None, revision)));
    }
    let time = text.parse::<Timestamp>().map(At::Time);
    time.map_err(|_| "expected a revision, as in 1234, or a time, as in 2026-11-21T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_revision_and_a_time_is_a_time() {
        assert_eq!(parse("42"), Ok(At::Revision(MinRevision(None, 42))));
        assert_eq!(parse("1970-01-01T01:00:01+01:00"), Ok(At::Time(Timestamp::from_ms(1_000))));
        assert!(parse("yesterday").is_err_and(|error| error.contains("2026-11-21T09:30:00Z")));
    }
}
