//! One service as it will be supervised: its settings, held against each other and against the limits of the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_schemas::instance::{Endpoint, Node};
use muster_schemas::limits::CHECKS_MAX;
use muster_schemas::{AgentId, Extra, Health, Incarnation, InstanceId, ServiceName, SessionId, Vouching};
use nix::sys::signal::Signal;

use super::check::{Probe, Target};
use super::child::Launch;
use super::core::backoff::Restart;
use super::core::supervision::{CheckPlan, Plan};
use super::core::thresholds::Thresholds;
use super::settings::{CheckSetting, OnStop, Port, RestartSetting, ServiceSettings, What};
use super::vouching::Description;
use crate::core::spec::InstanceSpec;

/// The linger of a service that its agent takes along, in milliseconds.
const LINGER_WITH_CHILD_MS: u64 = 2_000;

/// Where a check connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This port, on the host where the service's own ports are checked.
    OwnPort(u16),
    /// Anywhere.
    At(Target),
}

/// How one check is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRun {
    /// What is looked at.
    pub probe: Probe,
    /// Where.
    pub place: Place,
    /// How long it may take.
    pub timeout: Duration,
}

/// One service as it will be supervised.
#[derive(Debug, Clone)]
pub struct ServicePlan {
    /// Its name.
    pub service: ServiceName,
    /// The id that was given.
    pub instance: Option<InstanceId>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// What the supervision needs to know.
    pub plan: Plan,
    /// The checks of `plan`, in the same order.
    pub runs: Vec<CheckRun>,
    /// Where the checks of own ports connect to, if that was said.
    pub check_host: Option<String>,
    /// None: it runs by itself.
    pub launch: Option<Launch>,
    /// What asks it to stop.
    pub stop_signal: Signal,
    /// Somebody may listen on its ports before it is started.
    pub allow_open_port: bool,
    /// It lives on when the agent stops, and its registration with it, for the next agent.
    pub leaves_on_stop: bool,
    /// Of its software.
    pub version: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Keys and values.
    pub metadata: BTreeMap<String, String>,
    /// Share of the traffic.
    pub weight: u16,
    /// In milliseconds.
    pub ttl_ms: u64,
    /// In milliseconds.
    pub linger_ms: u64,
}

/// The setting, named as its field, and what is wrong with it.
pub type SettingProblem = (&'static str, String);

impl ServicePlan {
    /// # Errors
    /// Everything that is wrong with these settings.
    pub fn new(settings: &ServiceSettings) -> Result<Self, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let has_child = !settings.command.is_empty();
        let (checks, runs) = checks(settings, &mut problems);
        if !has_child && runs.is_empty() {
            let reason = "there is nothing to tell whether the service lives: give a command, a port or a check";
            problems.push(("check", reason.to_owned()));
        }
        if has_child && settings.on_stop == Some(OnStop::Leave) {
            let reason = "leave is for services that run by themselves: one that the agent started stops with it";
            problems.push(("on_stop", reason.to_owned()));
        }
        let ttl_ms = settings.ttl.as_ms();
        if ttl_ms == 0 {
            // On the wire it would mean "without lease"; for this there is the command line.
            problems.push(("ttl", "must be from 1s to 1h".to_owned()));
        }
        let linger_ms = if has_child { LINGER_WITH_CHILD_MS.min(ttl_ms) } else { ttl_ms };
        let Some(service) = settings.service.clone() else {
            problems.push(("service", "must be given".to_owned()));
            return Err(problems);
        };
        let plan = Self {
            service,
            instance: settings.instance.clone(),
            ports: settings.port.clone(),
            plan: supervision(settings, has_child, checks),
            runs,
            check_host: settings.check_host.clone(),
            launch: has_child
                .then(|| Launch { command: settings.command.clone(), directory: settings.directory.clone() }),
            stop_signal: settings.stop_signal.0,
            allow_open_port: settings.allow_open_port,
            leaves_on_stop: settings.on_stop.map_or(!has_child, |on_stop| on_stop == OnStop::Leave),
            version: settings.service_version.clone(),
            tags: settings.tag.clone(),
            metadata: settings.metadata.iter().map(|entry| (entry.0.clone(), entry.1.clone())).collect(),
            weight: settings.weight,
            ttl_ms,
            linger_ms: settings.linger.map_or(linger_ms, muster_runtime::settings::Period::as_ms),
        };
        if settings.check_host.as_ref().is_some_and(|host| !muster_schemas::instance::is_host(host)) {
            problems.push(("check_host", "write an IP address or a DNS name".to_owned()));
        }
        problems.extend(plan.over_the_limits());
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    /// What is registered of it; the host is the advertised one.
    #[must_use]
    pub fn spec(&self, instance: InstanceId, host: &str, description: &Description, health: Health) -> InstanceSpec {
        let endpoint = |port: &Port| Endpoint {
            name: port.name.as_str().into(),
            scheme: port.scheme.as_str().into(),
            host: Some(host.into()),
            port: Some(port.number),
            subject: None,
            extra: Extra::new(),
        };
        let node = Node { address: Some(host.into()), ..description.node.clone() };
        InstanceSpec {
            endpoints: self.ports.iter().map(endpoint).collect(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone(),
            weight: self.weight,
            version: self.version.clone(),
            locality: description.locality.clone(),
            node: Some(node),
            ttl_ms: self.ttl_ms,
            linger_ms: self.linger_ms,
            health,
            ..InstanceSpec::new(self.service.clone(), instance)
        }
    }

    /// The instance's id: as given, else the node and the first port.
    ///
    /// # Errors
    /// The node's name is too long for that.
    pub fn instance_id(&self, node: &str) -> Result<InstanceId, String> {
        if let Some(instance) = &self.instance {
            return Ok(instance.clone());
        }
        let text = match self.ports.first() {
            Some(port) => format!("{node}-{}", port.number),
            None => node.to_owned(),
        };
        InstanceId::new(&text).map_err(|error| format!("{error}; or give the instance's id with --instance"))
    }

    /// Reads the registration as a registry will.
    fn over_the_limits(&self) -> Option<SettingProblem> {
        let placeholder = "placeholder";
        let vouching = Vouching {
            service: self.service.clone(),
            instance: InstanceId::new(placeholder).ok()?,
            agent: AgentId::new(placeholder).ok()?,
            session: SessionId::from_parts(0, 0),
            incarnation: Incarnation::from_parts(0, 0),
            generation: 1,
        };
        let description = Description {
            node: Node { id: None, name: placeholder.into(), address: None, extra: Extra::new() },
            locality: None,
        };
        let spec = self.spec(vouching.instance.clone(), placeholder, &description, Health::default());
        let refusal = spec.registration(vouching).validate().err()?;
        let settings = [
            ("data.ttl_ms", "ttl"),
            ("data.linger_ms", "linger"),
            ("data.endpoints", "port"),
            ("data.version", "service_version"),
            ("data.tags", "tag"),
            ("data.metadata", "metadata"),
        ];
        let (_, setting) = settings.into_iter().find(|(field, _)| refusal.field.starts_with(field))?;
        Some((setting, format!("{}: {}", refusal.value, refusal.help)))
    }
}

fn supervision(settings: &ServiceSettings, has_child: bool, checks: Vec<CheckPlan>) -> Plan {
    Plan {
        has_child,
        checks,
        ready_within_ms: settings.ready_within.as_ms(),
        critical_deregister_after_ms: settings.critical_deregister_after.as_ms(),
        drain_ms: settings.drain.as_ms(),
        grace_ms: settings.grace.as_ms(),
        restart: match settings.restart {
            RestartSetting::Never => Restart::Never,
            RestartSetting::OnFailure => Restart::OnFailure,
        },
    }
}

/// The checks that were given, and one of its port for every port that none was given for.
fn checks(settings: &ServiceSettings, problems: &mut Vec<SettingProblem>) -> (Vec<CheckPlan>, Vec<CheckRun>) {
    for (key, is_wrong) in [
        ("check_interval", settings.check_interval.as_ms() == 0),
        ("check_timeout", settings.check_timeout.as_ms() == 0),
        ("check_failures", settings.check_failures == 0),
        ("check_successes", settings.check_successes == 0),
    ] {
        if is_wrong {
            problems.push((key, "must be more than nothing".to_owned()));
        }
    }
    let mut found: Vec<(&CheckSetting, Probe, Place)> = Vec::new();
    for check in &settings.check {
        let port = settings.port.iter().find(|port| port.name == check.name);
        match (&check.what, port) {
            (What::Nothing, Some(_)) => {}
            (What::OfPort(probe), Some(port)) => found.push((check, probe.clone(), Place::OwnPort(port.number))),
            (What::At(probe, target), _) => found.push((check, probe.clone(), Place::At(target.clone()))),
            (What::Nothing | What::OfPort(_), None) => {
                let names: Vec<&str> = settings.port.iter().map(|port| port.name.as_str()).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let reason = format!("there is no port named {:?} (ports: {known}): add it with --port", check.name);
                problems.push(("check", reason));
            }
        }
    }
    let unnamed: Vec<CheckSetting> = settings
        .port
        .iter()
        .filter(|port| port.has_connections() && !settings.check.iter().any(|check| check.name == port.name))
        .map(|port| CheckSetting {
            name: port.name.clone(),
            what: What::OfPort(Probe::Tcp),
            interval: None,
            timeout: None,
            failures: None,
            successes: None,
        })
        .collect();
    found.extend(unnamed.iter().filter_map(|check| {
        let port = settings.port.iter().find(|port| port.name == check.name)?;
        Some((check, Probe::Tcp, Place::OwnPort(port.number)))
    }));
    if found.len() > CHECKS_MAX {
        problems.push(("check", format!("{} checks are too many: the limit is {CHECKS_MAX}", found.len())));
    }
    let mut ids = BTreeSet::new();
    found.into_iter().map(|(check, probe, place)| one_check(settings, check, probe, place, &mut ids)).unzip()
}

fn one_check(
    settings: &ServiceSettings,
    check: &CheckSetting,
    probe: Probe,
    place: Place,
    ids: &mut BTreeSet<String>,
) -> (CheckPlan, CheckRun) {
    let mut id = check.name.clone();
    let mut number = 1;
    while !ids.insert(id.clone()) {
        number += 1;
        id = format!("{}-{number}", check.name);
    }
    let at = match &place {
        Place::OwnPort(port) => format!("port {port}"),
        Place::At(target) => target.to_string(),
    };
    let name = match &probe {
        Probe::Tcp => format!("TCP {at} is open"),
        Probe::Http { path } => format!("HTTP {path} at {at}"),
    };
    let plan = CheckPlan {
        id,
        name,
        kind: probe.kind().to_owned(),
        interval_ms: check.interval.unwrap_or(settings.check_interval).as_ms(),
        thresholds: Thresholds {
            failures: check.failures.unwrap_or(settings.check_failures),
            successes: check.successes.unwrap_or(settings.check_successes),
        },
    };
    let timeout = check.timeout.unwrap_or(settings.check_timeout).as_duration();
    (plan, CheckRun { probe, place, timeout })
}
