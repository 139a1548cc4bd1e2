//! What can be said to a registry.

use std::path::PathBuf;

use muster_runtime::broker::BrokerSettings;
use muster_runtime::http::HttpSettings;
use muster_runtime::settings::{Check, Period};
use muster_schemas::ReplicaId;

use crate::core::replica::Keeping;

/// Folds the log of a namespace into a catalog, publishes its changes and answers queries from it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Registry")]
pub struct RegistrySettings {
    /// The broker, the namespace and the prefix.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// Where metrics and health are served.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Name of this replica, unlike that of any other [default: the host's name and something random]
    #[arg(long, value_name = "NAME", help_heading = "Registry")]
    pub replica_id: Option<ReplicaId>,
    /// How many copies the stream has: 1 on a single broker, 3 in a cluster [default: 1 if it is created, any if it exists]
    #[arg(long, value_name = "COUNT", help_heading = "Registry")]
    pub stream_replicas: Option<usize>,
    /// Where this registry stands; named in the log
    #[arg(long, value_name = "NAME", help_heading = "Registry")]
    pub datacenter: Option<String>,
    /// Answer only to reply subjects below these, or somebody could have answers sent anywhere
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',', default_value = "_INBOX", help_heading = "Registry")]
    pub reply_prefix: Vec<String>,
    /// File with a JWT and its seed for the connection that answers queries, whose user may publish replies and nothing else
    #[arg(long, value_name = "FILE", group = "answers_credentials", help_heading = "Registry")]
    pub answers_creds: Option<PathBuf>,
    /// File with the seed of an nkey for the connection that answers queries
    #[arg(long, value_name = "FILE", group = "answers_credentials", help_heading = "Registry")]
    pub answers_nkey: Option<PathBuf>,
    /// User name for the connection that answers queries; needs --answers-password-file
    #[arg(long, value_name = "NAME", group = "answers_credentials", help_heading = "Registry")]
    pub answers_user: Option<String>,
    /// File with that user's password
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub answers_password_file: Option<PathBuf>,
    /// Directory on the local disk for the catalog, from which intents and static instances return if the broker loses
    /// everything while no registry runs
    #[arg(long, value_name = "DIRECTORY", help_heading = "Registry")]
    pub state_dir: Option<PathBuf>,
    /// Events of the log older than this are deleted once a checkpoint stands for them [default: none are]
    #[arg(long, value_name = "PERIOD", help_heading = "Registry")]
    pub history_age: Option<Period>,
    /// The log is cut down to about so many bytes, as far as a checkpoint stands for what goes [default: it is not]
    #[arg(long, value_name = "BYTES", help_heading = "Registry")]
    pub history_bytes: Option<u64>,
    /// How often a checkpoint is written while there are events
    #[arg(long, value_name = "PERIOD", default_value = "5m", help_heading = "Registry")]
    pub checkpoint_period: Period,
    /// How long instances are kept while nobody hears the broker server that their agents are on
    #[arg(long, value_name = "PERIOD", default_value = "1m", help_heading = "Registry")]
    pub unreachable_limit: Period,
    /// How long a query waits for its `min_revision`
    #[arg(long, value_name = "PERIOD", default_value = "500ms", hide = true)]
    pub query_wait: Period,
    /// How long the rest of a large answer is held
    #[arg(long, value_name = "PERIOD", default_value = "30s", hide = true)]
    pub cursor_period: Period,
    /// How long a first log is waited for; no shorter than the agents' heartbeat period
    #[arg(long, value_name = "PERIOD", default_value = "2s", hide = true)]
    pub listen_period: Period,
}

/// The most copies that a broker makes of a stream.
const STREAM_REPLICAS_MAX: usize = 5;

/// More often, and writing would never end.
const CHECKPOINT_PERIOD_MIN: Period = Period::from_secs(1);
/// More seldom, and a start would take longer than is promised.
const CHECKPOINT_PERIOD_MAX: Period = Period::from_secs(300);

impl RegistrySettings {
    /// To be called from the program's own check.
    pub fn check(&mut self, check: &mut Check) {
        self.broker.check(check);
        if self.stream_replicas.is_some_and(|count| !(1..=STREAM_REPLICAS_MAX).contains(&count)) {
            check.refuse("stream_replicas", "must be from 1 to 5; 3 suits a cluster");
        }
        if !(CHECKPOINT_PERIOD_MIN..=CHECKPOINT_PERIOD_MAX).contains(&self.checkpoint_period) {
            check.refuse("checkpoint_period", "must be from 1s to 5m");
        }
        for (key, file) in [
            ("answers_creds", &self.answers_creds),
            ("answers_nkey", &self.answers_nkey),
            ("answers_password_file", &self.answers_password_file),
        ] {
            if let Some(Err(error)) = file.as_ref().map(std::fs::File::open) {
                check.refuse(key, format!("cannot be read: {error}"));
            }
        }
        if self.answers_user.is_some() != self.answers_password_file.is_some() {
            check.refuse("answers_user", "--answers-user and --answers-password-file need each other");
        }
        let is_token = |token: &str| !token.is_empty() && !token.contains(['*', '>', ' ', '\t']);
        if !self.reply_prefix.iter().all(|prefix| prefix.trim_end_matches('.').split('.').all(is_token)) {
            check.refuse("reply_prefix", "write tokens separated by dots, without spaces and wildcards");
        }
    }

    /// The broker as the connection that answers queries sees it.
    pub(crate) fn answers_broker(&self) -> BrokerSettings {
        if self.answers_creds.is_none() && self.answers_nkey.is_none() && self.answers_user.is_none() {
            return self.broker.clone();
        }
        let mut broker = self.broker.without_credentials();
        broker.creds.clone_from(&self.answers_creds);
        broker.nkey.clone_from(&self.answers_nkey);
        broker.user.clone_from(&self.answers_user);
        broker.password_file.clone_from(&self.answers_password_file);
        broker
    }

    /// The replica's name: as set, else made up of the host's name and something random.
    pub(crate) fn replica(&self) -> ReplicaId {
        let random: u32 = rand::random();
        let made_up = || {
            let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
            let name = format!("{}-{random:08x}", host.as_deref().unwrap_or("registry"));
            name.parse().ok()
        };
        let plain = || format!("registry-{random:08x}").parse().ok();
        self.replica_id
            .clone()
            .or_else(made_up)
            .or_else(plain)
            .unwrap_or_else(|| unreachable!("a name of letters and digits is a name"))
    }

    /// What is kept beside the log, and how much of the log.
    pub(crate) fn keeping(&self) -> Keeping {
        Keeping {
            state: self.state_dir.is_some(),
            history_age_ms: self.history_age.map(Period::as_ms),
            history_bytes: self.history_bytes,
        }
    }

    /// What a reply subject must begin with: whole tokens.
    pub(crate) fn reply_prefixes(&self) -> Vec<String> {
        let whole = |prefix: &String| format!("{}.", prefix.trim_end_matches('.'));
        self.reply_prefix.iter().map(whole).collect()
    }
}
