//! What the broker settings come to: files are read, a context is applied, defaults are filled in.

use std::path::{Path, PathBuf};

use async_nats::ServerAddr;

use super::context::{self, Context};
use super::credentials::{Credentials, Secret, seed_of};
use super::error::BrokerError;
use super::settings::{BrokerSettings, ServerUrl};
use crate::settings::{Check, Period};

const SERVER_DEFAULT: &str = "nats://127.0.0.1:4222";
const INBOX_PREFIX_DEFAULT: &str = "_INBOX";

/// What the settings come to: files are read, the context is applied, defaults are filled in.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) servers: Vec<ServerUrl>,
    pub(super) credentials: Credentials,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_client: Option<(PathBuf, PathBuf)>,
    pub(super) tls_first: bool,
    pub(super) inbox_prefix: String,
    pub(super) connect_timeout: Period,
    context: Option<String>,
}

impl Access {
    /// The servers for messages: separated by commas, without passwords.
    #[must_use]
    pub fn servers(&self) -> String {
        self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The context of the `nats` command line that was applied.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// What every reply subject of ours begins with.
    #[must_use]
    pub fn inbox_prefix(&self) -> &str {
        &self.inbox_prefix
    }

    pub(super) fn addresses(&self) -> Vec<ServerAddr> {
        self.servers.iter().map(|server| server.0.clone()).collect()
    }
}

impl BrokerSettings {
    /// Reads the files and the context. To be called from the program's own [`crate::settings::Settings::check`].
    pub fn check(&mut self, check: &mut Check) {
        let directory = context::directory();
        self.access = Some(self.resolve(directory.as_deref(), check));
    }

    /// What the settings come to.
    ///
    /// # Errors
    /// [`BrokerError::Settings`], if files or the context are wrong; never after [`BrokerSettings::check`] was content.
    pub fn access(&self) -> Result<Access, BrokerError> {
        if let Some(access) = &self.access {
            return Ok(access.clone());
        }
        let mut check = Check::default();
        let access = self.resolve(context::directory().as_deref(), &mut check);
        let problems = check.into_problems();
        if problems.is_empty() { Ok(access) } else { Err(BrokerError::Settings(problems)) }
    }

    pub(super) fn resolve(&self, contexts: Option<&Path>, check: &mut Check) -> Access {
        let (name, context) = self.context(contexts, check);
        let servers = self.servers(&context, check);
        let credentials = self.credentials(&context, &servers, check);
        let tls_ca = self.tls_ca.clone().or_else(|| context::path(&context.ca));
        check_readable(check, "tls_ca", tls_ca.as_deref());
        Access {
            credentials,
            tls_client: self.tls_client(&context, check),
            tls_ca,
            tls_first: context.tls_first,
            inbox_prefix: self.inbox_prefix(&context, check),
            connect_timeout: self.connect_timeout,
            servers,
            context: name,
        }
    }

    fn context(&self, directory: Option<&Path>, check: &mut Check) -> (Option<String>, Context) {
        let Some(directory) = directory else {
            if self.context.is_some() {
                check.refuse("context", "there is no configuration directory: neither XDG_CONFIG_HOME nor HOME is set");
            }
            return (None, Context::default());
        };
        let selected = || {
            if self.server.is_empty() { context::selected(directory) } else { None }
        };
        let Some(name) = self.context.clone().or_else(selected) else {
            return (None, Context::default());
        };
        let context = context::read(directory, &name).unwrap_or_else(|reason| {
            let selected = if self.context.is_none() { "of the selected context: " } else { "" };
            check.refuse("context", format!("{selected}{reason}"));
            Context::default()
        });
        (Some(name), context)
    }

    fn servers(&self, context: &Context, check: &mut Check) -> Vec<ServerUrl> {
        if !self.server.is_empty() {
            return self.server.clone();
        }
        let urls = if context.url.is_empty() { SERVER_DEFAULT } else { &context.url };
        let parsed: Result<Vec<ServerUrl>, String> = urls.split(',').map(str::parse).collect();
        parsed.unwrap_or_else(|reason| {
            check.refuse("context", format!("its url is wrong: {reason}"));
            Vec::new()
        })
    }

    /// Our own settings win over the context, and the context over what stands in the URLs.
    fn credentials(&self, context: &Context, servers: &[ServerUrl], check: &mut Check) -> Credentials {
        if self.user.is_some() != self.password_file.is_some() {
            let (given, other) =
                if self.user.is_some() { ("user", "--password-file") } else { ("password_file", "--user") };
            check.refuse(given, format!("is of no use alone; give {other} as well"));
        }
        if let Some(path) = &self.creds {
            return credentials_file(check, "creds", path);
        }
        if let Some(path) = &self.nkey {
            return nkey_file(check, "nkey", path);
        }
        if let (Some(user), Some(path)) = (&self.user, &self.password_file) {
            return Credentials::User(user.clone(), first_line(check, "password_file", path));
        }
        if let Some(path) = &self.token_file {
            return Credentials::Token(first_line(check, "token_file", path));
        }
        of_context(context, check).or_else(|| of_urls(servers)).unwrap_or_default()
    }

    fn tls_client(&self, context: &Context, check: &mut Check) -> Option<(PathBuf, PathBuf)> {
        let cert = self.tls_cert.clone().or_else(|| context::path(&context.cert));
        let key = self.tls_key.clone().or_else(|| context::path(&context.key));
        check_readable(check, "tls_cert", cert.as_deref());
        check_readable(check, "tls_key", key.as_deref());
        match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                check.refuse("tls_cert", "is of no use alone; give --tls-key as well");
                None
            }
            (None, Some(_)) => {
                check.refuse("tls_key", "is of no use alone; give --tls-cert as well");
                None
            }
        }
    }

    fn inbox_prefix(&self, context: &Context, check: &mut Check) -> String {
        let of_context = (!context.inbox_prefix.is_empty()).then(|| context.inbox_prefix.clone());
        let prefix = self.inbox_prefix.clone().or(of_context).unwrap_or_else(|| INBOX_PREFIX_DEFAULT.to_owned());
        let is_token =
            |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || "*>".contains(c));
        if !prefix.split('.').all(is_token) {
            check.refuse("inbox_prefix", "write one or more tokens separated by dots, without spaces and wildcards");
        }
        prefix
    }
}

fn of_context(context: &Context, check: &mut Check) -> Option<Credentials> {
    if let Some(path) = context::path(&context.creds) {
        return Some(credentials_file(check, "context", &path));
    }
    if let Some(path) = context::path(&context.nkey) {
        return Some(nkey_file(check, "context", &path));
    }
    if !context.user.is_empty() {
        return Some(Credentials::User(context.user.clone(), Secret(context.password.clone())));
    }
    (!context.token.is_empty()).then(|| Credentials::Token(Secret(context.token.clone())))
}

/// `nats://user:password@host` and `nats://token@host`. The client library ignores this part of a URL.
fn of_urls(servers: &[ServerUrl]) -> Option<Credentials> {
    servers.iter().find_map(|server| {
        let user = server.0.username()?.to_owned();
        Some(match server.0.password() {
            Some(password) => Credentials::User(user, Secret(password.to_owned())),
            None => Credentials::Token(Secret(user)),
        })
    })
}

fn read_text(check: &mut Check, key: &str, path: &Path) -> Option<String> {
    std::fs::read_to_string(path)
        .map_err(|error| check.refuse(key, format!("{} cannot be read: {error}", path.display())))
        .ok()
}

fn check_readable(check: &mut Check, key: &str, path: Option<&Path>) {
    if let Some(Err(error)) = path.map(std::fs::File::open) {
        check.refuse(key, format!("{} cannot be read: {error}", path.unwrap_or(Path::new("")).display()));
    }
}

fn credentials_file(check: &mut Check, key: &str, path: &Path) -> Credentials {
    let Some(text) = read_text(check, key, path) else {
        return Credentials::None;
    };
    let credentials = Credentials::Jwt(Secret(text));
    if credentials.apply(async_nats::ConnectOptions::new()).is_err() {
        check.refuse(key, format!("{} is no credentials file; make one with `nsc generate creds`", path.display()));
    }
    credentials
}

fn nkey_file(check: &mut Check, key: &str, path: &Path) -> Credentials {
    let Some(text) = read_text(check, key, path) else {
        return Credentials::None;
    };
    match seed_of(&text) {
        Some(seed) => Credentials::Nkey(Secret(seed)),
        None => {
            check.refuse(key, format!("{} holds no nkey seed (58 characters from `SU`)", path.display()));
            Credentials::None
        }
    }
}

fn first_line(check: &mut Check, key: &str, path: &Path) -> Secret {
    let text = read_text(check, key, path);
    let line = text.as_deref().and_then(|text| text.lines().next()).unwrap_or_default().to_owned();
    if text.is_some() && line.is_empty() {
        check.refuse(key, format!("{} is empty; its first line is what counts", path.display()));
    }
    Secret(line)
}

#[cfg(test)]
mod tests;
