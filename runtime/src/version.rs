//! What `--version` prints: version, commit, wire version and fold version.

/// The version of the workspace, all programs together.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit this was built from; `unknown` where there was no git; with "or later" in debug builds.
pub const COMMIT: &str = env!("MUSTER_BUILD_COMMIT");

/// What stands behind the program's name in `--version`.
#[must_use]
pub fn long() -> String {
    format!("{VERSION} (commit {COMMIT}, wire {}, fold {})", muster_schemas::WIRE_VERSION, muster_schemas::FOLD_VERSION)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_names_commit_wire_and_fold() {
        let text = super::long();
        for part in [super::VERSION, "commit ", "wire ", "fold "] {
            assert!(text.contains(part), "`{part}` is missing in `{text}`");
        }
    }
}
