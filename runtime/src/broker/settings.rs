//! Which broker, with which proof of identity: the flags that all programs share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use async_nats::ServerAddr;
use muster_schemas::{Namespace, Prefix};

use super::access::Access;
use crate::settings::Period;

/// Where these settings stand in the help. On each argument, for a heading of the struct would go on below it.
const HEADING: &str = "Broker";

/// How to reach the broker, and which part of it is ours.
#[derive(Clone, Debug, clap::Args)]
pub struct BrokerSettings {
    /// Servers of the broker, separated by commas [default: the context's, else nats://127.0.0.1:4222]
    #[arg(long, help_heading = HEADING, value_name = "URL", value_delimiter = ',')]
    pub server: Vec<ServerUrl>,
    /// A context of the `nats` command line [default: the selected one, if no server is given]
    #[arg(long, help_heading = HEADING, value_name = "NAME")]
    pub context: Option<String>,
    /// File with a JWT and its seed (`.creds`)
    #[arg(long, help_heading = HEADING, value_name = "FILE", group = "credentials")]
    pub creds: Option<PathBuf>,
    /// File with the seed of an nkey
    #[arg(long, help_heading = HEADING, value_name = "FILE", group = "credentials")]
    pub nkey: Option<PathBuf>,
    /// User name; needs --password-file
    #[arg(long, help_heading = HEADING, value_name = "NAME", group = "credentials")]
    pub user: Option<String>,
    /// File with the user's password
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// File with a token
    #[arg(long, help_heading = HEADING, value_name = "FILE", group = "credentials")]
    pub token_file: Option<PathBuf>,
    /// File with the certificates of authorities to trust, instead of the system's
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// File with the client's certificate; needs --tls-key
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// File with the client's private key; needs --tls-cert
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// First tokens of the subjects for replies; the identity follows [default: the context's, else _INBOX]
    #[arg(long, help_heading = HEADING, value_name = "SUBJECT")]
    pub inbox_prefix: Option<String>,
    /// How long the first connection may take
    #[arg(long, help_heading = HEADING, value_name = "PERIOD", default_value = "1s")]
    pub connect_timeout: Period,
    /// Tenant or environment: one stream, one subject tree
    #[arg(long, help_heading = HEADING, value_name = "NAME", default_value_t = Namespace::default())]
    pub namespace: Namespace,
    /// First token of every subject
    #[arg(long, help_heading = HEADING, value_name = "TOKEN", default_value_t = Prefix::default())]
    pub prefix: Prefix,
    /// What the files and the context said, once [`BrokerSettings::check`] read them.
    #[arg(skip)]
    pub(super) access: Option<Access>,
}

impl BrokerSettings {
    /// The same broker without proof of identity, for somebody who gives it other proof.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        Self {
            creds: None,
            nkey: None,
            user: None,
            password_file: None,
            token_file: None,
            access: None,
            ..self.clone()
        }
    }
}

/// The URL of one server: `nats://host:port`, `tls://host:port` or `host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(pub(super) ServerAddr);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WAY_OUT: &str = "write nats://HOST:PORT, or tls://HOST:PORT";
        let address: ServerAddr = text.trim().parse().map_err(|_| WAY_OUT.to_owned())?;
        let known_scheme = ["nats", "tls"].contains(&address.scheme());
        if known_scheme && !address.host().is_empty() { Ok(Self(address)) } else { Err(WAY_OUT.to_owned()) }
    }
}

impl fmt::Display for ServerUrl {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host();
        let brackets = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{}{host}{}:{}", self.0.scheme(), brackets.0, brackets.1, self.0.port())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
