//! The contexts of the `nats` command line: files that say how to reach a broker.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a context says. Unknown fields are left alone: the file is another tool's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub(super) url: String,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) token: String,
    pub(super) creds: String,
    pub(super) nkey: String,
    pub(super) cert: String,
    pub(super) key: String,
    pub(super) ca: String,
    pub(super) inbox_prefix: String,
    pub(super) tls_first: bool,
    user_jwt: String,
    nsc: String,
    socks_proxy: String,
}

/// Where contexts are: `nats/` below the user's configuration directory.
pub(super) fn directory() -> Option<PathBuf> {
    crate::settings::config_home().map(|home| home.join("nats"))
}

/// The context that `nats context select` chose, if any.
pub(super) fn selected(directory: &Path) -> Option<String> {
    let name = std::fs::read_to_string(directory.join("context.txt")).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// Reads the context called `name`.
///
/// # Errors
/// There is none, or it is not readable, or it needs what is not supported; in words with a way out.
pub(super) fn read(directory: &Path, name: &str) -> Result<Context, String> {
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err("a context's name has no path in it; see `nats context ls`".to_owned());
    }
    let path = directory.join("context").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{} cannot be read: {error}; see `nats context ls`", path.display()))?;
    let context: Context = serde_json::from_str(&text)
        .map_err(|error| format!("{} is no context: {error}; see `nats context edit {name}`", path.display()))?;
    for (value, field) in
        [(&context.user_jwt, "user_jwt"), (&context.nsc, "nsc"), (&context.socks_proxy, "socks_proxy")]
    {
        if !value.is_empty() {
            let file = path.display();
            return Err(format!("{file} uses `{field}`, which is not supported; use `creds` (`nsc generate creds`)"));
        }
    }
    Ok(context)
}

/// A path of a context, with `~` for the home directory; empty means none.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    if text.is_empty() {
        return None;
    }
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    match text.strip_prefix("~/") {
        Some(rest) => Some(home().map_or_else(|| PathBuf::from(text), |home| home.join(rest))),
        None => Some(PathBuf::from(text)),
    }
}
