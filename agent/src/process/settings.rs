//! The settings of `muster-agent`: what holds for the agent, and for each of its services.

mod check;
mod port;
mod service;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use muster_runtime::broker::BrokerSettings;
use muster_runtime::http::HttpSettings;
use muster_runtime::logging::LogSettings;
use muster_runtime::settings::{Check, Entry, Period, Settings, Source, Table};
use muster_schemas::AgentId;

use super::core::address::{AddressRules, Cidr};
use super::guard;
use super::plan::ServicePlan;
pub use check::{CheckError, CheckSetting, What};
pub use port::{Port, PortError};
pub use service::{Limit, Metadata, OnStop, RestartSetting, ServiceSettings, StopSignal};

/// The key of a service in the file.
const TABLE: &str = "service";
/// One agent has no more services than this.
const SERVICES_MAX: usize = 1_000;

/// Vouches for services: starts them, checks them, registers them, takes them back.
///
/// Examples:
///   muster-agent run --service orders --port http=8080 --check http=/healthz -- ./orders
///   muster-agent run --service db --port postgres=5432         (runs by itself; is only watched)
///   muster-agent run --config services.toml                    (several; see muster-agent run --help)
#[derive(Debug, Parser)]
#[command(name = "muster-agent", verbatim_doc_comment, subcommand_required = true, arg_required_else_help = true)]
pub struct AgentSettings {
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// The log.
    #[command(flatten)]
    pub log: LogSettings,
    /// Metrics and health.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Id of this agent [default: the node's name, with -2, -3, … where several agents run on one host]
    #[arg(long, value_name = "ID")]
    pub agent_id: Option<AgentId>,
    /// Directory for the node's id and the locks of the agents' ids [default: /var/lib/muster for root, else
    /// $XDG_STATE_HOME/muster or ~/.local/state/muster]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address or DNS name to advertise [default: by the rules below, else the local end of the route to the broker]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Advertise an address of this interface; of several, the first that has one
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub advertise_interface: Vec<String>,
    /// Advertise an address of this host in this network; of several, the first that holds one
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub advertise_cidr: Vec<Cidr>,
    /// Let the rules and the route choose a loopback address, which no other host can reach
    #[arg(long)]
    pub allow_loopback: bool,
    /// Start services only once the broker is there, and end the agent if their registration is not confirmed in time
    #[arg(long)]
    pub require_registration: bool,
    /// How long a registration that is required may take
    #[arg(long, value_name = "PERIOD", default_value = "30s")]
    pub registration_within: Period,
    /// From one heartbeat to the next
    #[arg(long, value_name = "PERIOD", default_value = "2s")]
    pub heartbeat_interval: Period,
    /// Region that this node stands in
    #[arg(long, value_name = "TEXT")]
    pub region: Option<String>,
    /// Zone within the region
    #[arg(long, value_name = "TEXT")]
    pub zone: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The services, once [`Settings::check`] was content.
    #[arg(skip)]
    pub services: Vec<ServicePlan>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run: one service given here, or those of the configuration file
    ///
    /// Returns the service's exit code, 128+n if signal n ended it, and 125 to 127 where the agent failed: 127 there is
    /// no such program, 126 it cannot be run, 125 anything else. 75 says that another session of this agent took over.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<ServiceSettings>),
    /// Ends the services of an agent that was killed; started by the agent itself.
    #[command(name = guard::COMMAND, hide = true)]
    Guard,
}

const RUN_EXAMPLES: &str = "\
Examples:
  muster-agent run --service orders --port http=8080 --check http=/healthz -- ./orders --fast
  muster-agent run --service orders --port http=8080 --check 'http=/healthz interval=500ms failures=5' -- ./orders
  muster-agent run --service db --port postgres=5432 --advertise 10.0.0.7
  muster-agent run --service mail --port smtp=25 --restart on-failure --drain 2s --grace 30s -- ./mail

The same in a file, for `muster-agent run --config services.toml`:
  [[service]]
  service = \"orders\"
  port = [\"http=8080\"]
  check = [\"http=/healthz\"]
  command = [\"./orders\", \"--fast\"]";

impl AgentSettings {
    /// The rules for the advertised address.
    #[must_use]
    pub fn address_rules(&self) -> AddressRules {
        AddressRules {
            explicit: self.advertise.clone(),
            interfaces: self.advertise_interface.clone(),
            networks: self.advertise_cidr.clone(),
            allow_loopback: self.allow_loopback,
        }
    }

    /// The services were given in the file, so that the end of one is not the end of all.
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        matches!(&self.command, Command::Run(service) if service.service.is_none())
    }

    fn check_address(&self, check: &mut Check) {
        let Some(advertise) = &self.advertise else { return };
        if !muster_schemas::instance::is_host(advertise) {
            check.refuse("advertise", "write an IP address (IPv6 without brackets) or a DNS name, without a port");
        } else if advertise.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
            check.refuse("advertise", "nobody can connect to it; write one address of this host");
        }
    }

    fn check_services(&mut self, check: &mut Check) {
        let entries: Vec<Entry<ServiceSettings>> = check.entries(TABLE);
        let Command::Run(given) = &self.command else { return };
        let entries = if given.service.is_some() {
            if !entries.is_empty() {
                check.warn("a service is given on the command line: those of the configuration file are left out");
            }
            let settings = (**given).clone();
            vec![Entry { settings, source: Source::Flag }]
        } else {
            if !given.command.is_empty() || !given.port.is_empty() {
                check.refuse_entry(&Source::Flag, "--service", "must be given with --port or a command");
            } else if entries.is_empty() {
                let reason = "nothing to run: give --service, or tables [[service]] in the configuration file";
                check.refuse_entry(&Source::Flag, "", reason);
            }
            entries
        };
        if entries.len() > SERVICES_MAX {
            let reason = format!("has {} tables; one agent has at most {SERVICES_MAX} services", entries.len());
            check.refuse_entry(&entries[0].source, TABLE, reason);
            return;
        }
        for entry in &entries {
            let spelled = |key: &str| match entry.source {
                Source::Flag => format!("--{}", key.replace('_', "-")),
                _ => key.to_owned(),
            };
            match ServicePlan::new(&entry.settings) {
                Ok(plan) => self.services.push(plan),
                Err(problems) => problems
                    .into_iter()
                    .for_each(|(key, reason)| check.refuse_entry(&entry.source, &spelled(key), reason)),
            }
        }
    }
}

impl Settings for AgentSettings {
    fn check(&mut self, check: &mut Check) {
        if matches!(self.command, Command::Guard) {
            return;
        }
        self.broker.check(check);
        self.check_address(check);
        if let Some(node) = &self.node
            && let Err(error) = AgentId::new(node)
        {
            check.refuse("node", error.to_string().replace("agent id", "node name"));
        }
        if self.heartbeat_interval.as_ms() == 0 {
            check.refuse("heartbeat_interval", "must be longer than nothing");
        }
        self.check_services(check);
        let shortest_ttl_ms = self.services.iter().map(|service| service.ttl_ms).min();
        if shortest_ttl_ms.is_some_and(|ttl_ms| self.heartbeat_interval.as_ms().saturating_mul(2) > ttl_ms) {
            check.refuse(
                "heartbeat_interval",
                "must be at most half of every ttl, so that one lost heartbeat ends nothing",
            );
        }
    }

    fn tables() -> Vec<Table> {
        vec![Table::of::<ServiceSettings>(TABLE)]
    }
}

#[cfg(test)]
mod tests;
