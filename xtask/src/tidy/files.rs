//! The texts of the project: what lies in the workspace and was written by hand.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace;

const ENDINGS: &[&str] = &["rs", "md", "toml", "txt", "yaml", "yml", "py", "sh", "service", "conf"];
const NAMES: &[&str] = &["Dockerfile", "run"];
/// Built, foreign or generated.
const LEFT_OUT: &[&str] = &["target", ".git", "vendor", "golden", "node_modules", "__pycache__"];

/// A text of the project.
pub(super) struct File {
    /// From the workspace's root, with `/` between its parts.
    pub(super) path: String,
    pub(super) text: String,
}

pub(super) fn all() -> Result<Vec<File>> {
    let mut files = Vec::new();
    collect(&workspace::root(), "", &mut files)?;
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && is_text(&name) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path} as UTF-8"))?;
            files.push(File { path, text });
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    NAMES.contains(&name) || ending.is_some_and(|ending| ENDINGS.contains(&ending))
}
