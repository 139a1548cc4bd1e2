//! `muster doctor`: broker, JetStream, permissions, stream, advisories, clock and registries: what is wrong, and what to do.

mod advisories;
mod permissions;
mod registries;
mod stream;

use std::time::{Duration, Instant};

use muster_runtime::broker::{BrokerError, BrokerSettings, SERVER_VERSION_MIN};
use muster_schemas::{AgentId, ServiceName};
use serde::Serialize;

use crate::error::CommandError;
use crate::session::{Session, print_json};
use crate::show::table;
use permissions::Role;

const HELP: &str = "\
Examples:
  muster doctor
  muster doctor --creds web1.creds --role agent --service orders --agent-id web1
  muster doctor --json | jq '.[] | select(.verdict != \"ok\")'

What this user may do is found out by trying it, with names that nobody else uses. A role that it may not have is only
told, unless --role asks for it.

Ends with 0 if nothing failed, else with 1; with 69 without a usable broker, 77 if it refuses what is asked for.";

/// Find out what is wrong, and what to do.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Doctor {
    /// What this user must be allowed to be; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<Role>,
    /// The service that permissions are tried with
    #[arg(long, value_name = "NAME", default_value = "muster-doctor")]
    service: ServiceName,
    /// The agent that permissions are tried with
    #[arg(long, value_name = "ID", default_value = "muster-doctor")]
    agent_id: AgentId,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// This user may not, and was not asked to.
    No,
    /// Works, with reservations.
    Warning,
    /// Does not work.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "no",
            Self::Warning => "WARNING",
            Self::Failed => "FAILED",
        }
    }
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    found: String,
    help: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, found: found.into(), help: None }
    }

    fn bad(check: impl Into<String>, verdict: Verdict, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check: check.into(), verdict, found: found.into(), help: Some(help.into()) }
    }
}

impl Doctor {
    pub(crate) async fn run(&self, broker: &BrokerSettings, json: bool) -> Result<(), CommandError> {
        let begun = Instant::now();
        let session = match Session::connect(broker, json, "doctor").await {
            Ok(session) => session,
            Err(error) => {
                let help = "nothing else can be checked";
                print(&[Finding::bad("broker", Verdict::Failed, error.to_string(), help)], json);
                return Err(error);
            }
        };
        let mut findings = vec![check_broker(&session, begun.elapsed())];
        findings.push(check_jetstream(&session).await);
        let (roles, refused) = self.check_roles(&session).await;
        findings.extend(roles);
        findings.extend(stream::check(&session).await);
        findings.push(advisories::check(&session, broker).await);
        findings.extend(advisories::check_servers(&session).await);
        findings.extend(registries::check(&session).await);
        print(&findings, json);
        let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
        match refused {
            Some(refused) => Err(refused.into()),
            None if failed == 0 => Ok(()),
            None => Err(CommandError::Failed(format!("{failed} of {} checks failed", findings.len()))),
        }
    }

    /// What was found, and the first refusal of a role that was asked for.
    async fn check_roles(&self, session: &Session) -> (Vec<Finding>, Option<BrokerError>) {
        let (mut findings, mut refused) = (Vec::new(), None);
        for role in Role::ALL {
            let is_asked_for = self.role.contains(&role);
            if let (finding, Some(error)) = permissions::check(session, role, &self.service, &self.agent_id).await {
                let verdict = if is_asked_for { Verdict::Failed } else { finding.verdict };
                findings.push(Finding { verdict, ..finding });
                refused = refused.or(is_asked_for.then_some(error));
            } else {
                findings.push(Finding::ok(role.check(), role.may()));
            }
        }
        if findings.iter().all(|finding| finding.verdict != Verdict::Ok) {
            let help = "grant the permissions of one role to this user, or use another user's credentials";
            let found = "this user may be nothing at all";
            findings.push(Finding::bad("permissions", Verdict::Failed, found, help));
        }
        (findings, refused)
    }
}

fn print(findings: &[Finding], json: bool) {
    if json {
        return print_json(&findings);
    }
    let rows = findings.iter().map(|finding| {
        let help = finding.help.as_ref().map(|help| format!(" -> {help}")).unwrap_or_default();
        let found = format!("{}{help}", finding.found);
        [finding.check.clone(), finding.verdict.word().to_owned(), found]
    });
    muster_runtime::output::print_line(&table(&["CHECK", "VERDICT", "FOUND"], rows));
}

fn check_broker(session: &Session, took: Duration) -> Finding {
    let info = session.client().server_info();
    let (major, minor) = SERVER_VERSION_MIN;
    let found = format!(
        "{} runs version {} ({major}.{minor} or newer is needed), connected in {} ms",
        info.server_name,
        info.version,
        took.as_millis()
    );
    if info.server_name == info.server_id {
        let help = "set server_name: in a cluster it is what tells one broker from another";
        return Finding::bad("broker", Verdict::Warning, found, help);
    }
    Finding::ok("broker", found)
}

async fn check_jetstream(session: &Session) -> Finding {
    let context = async_nats::jetstream::new(session.client().clone());
    match context.query_account().await {
        Ok(account) if account.limits.max_storage.is_some_and(|limit| limit == 0) => Finding::bad(
            "jetstream",
            Verdict::Failed,
            "the account may store nothing on disk",
            "raise the account's disk limit (max_file or max_disk_storage)",
        ),
        Ok(account) => {
            let found = format!("streams: {}, bytes on disk: {}", account.streams, account.storage);
            Finding::ok("jetstream", found)
        }
        Err(error) => Finding::bad(
            "jetstream",
            Verdict::Warning,
            format!("not known: {error}"),
            "start nats-server with -js, enable JetStream for the account, and let this user ask $JS.API.INFO",
        ),
    }
}
