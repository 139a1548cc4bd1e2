//! `muster watch`: the list, then every change of it as it happens.

mod lines;
mod records;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use muster_discovery::{Discovery, Filter, Update, Watch};
use muster_runtime::broker::Need;
use muster_runtime::output::{end_when_closed, print_line};
use muster_runtime::settings::Period;
use muster_runtime::stop::Stop;
use muster_schemas::ServiceName;
use muster_schemas::pulse::bucket;
use muster_schemas::subject::Query;

use crate::error::CommandError;
use crate::session::{Session, print_json};

use lines::Lines;
use records::record;

const HELP: &str = "\
Examples:
  muster watch                                all services
  muster watch orders payments                some services
  muster watch orders --routable --tag eu     only what may be used, and is tagged eu
  muster watch orders --count 1               until one change has come
  muster watch --json | jq -c 'select(.change == \"removed\") | [.service, .instance, .cause, .evidence]'

With --json every line is one object, of one of three kinds:
  {\"update\": \"list\", \"service\", \"at\", \"state\", \"unknown_since\", \"revision\", \"instances\": [...]}
      First, once for every service named (\"service\": null where all are watched); `instances` as registered.
  {\"update\": \"change\", \"change\": \"added|updated|removed\", \"service\", \"instance\", \"at\", \"cause\", \"actor\",
   \"revision\", \"evidence\", \"conflicts\", \"value\", \"before\"}
      `value` is the instance after the change, `before` what it was; null where there is none.
  {\"update\": \"state\", \"service\", \"at\", \"state\": \"verified|unknown\", \"unknown_since\"}
      Whether the list is known to be complete. While unknown, the last good list stays.
`revision` is [epoch, sequence]. Fields may be added.

Goes on through outages of broker and registries. Ctrl-C ends it with code 0.";

/// Follow services: the list first, then every change as it happens, with its cause.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct WatchCommand {
    /// The services; none means all
    services: Vec<ServiceName>,
    /// Only instances that may be used
    #[arg(long)]
    routable: bool,
    /// Only instances with this tag; repeated, with all of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only instances of this version
    #[arg(long, value_name = "VERSION")]
    of_version: Option<String>,
    /// End after so many changes; the list and changes of its state do not count
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "PERIOD")]
    period: Option<Period>,
}

/// One update, and the service whose watch it came from; none if that watches all.
type Told = (Option<ServiceName>, Update);

impl WatchCommand {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let stop = Stop::on_signals().map_err(|error| CommandError::Failed(error.to_string()))?;
        let services: BTreeSet<&ServiceName> = self.services.iter().collect();
        session.connection().verify(&needs(session, &services)).await?;
        tokio::spawn(end_when_closed());
        let mut updates = self.open(session, &services).await?;
        let mut printer = Printer::new(session.json(), services.len() == 1);
        let mut changes_left = self.count.unwrap_or(u64::MAX);
        let mut end = std::pin::pin!(self.end(&stop));
        while changes_left > 0 {
            let told = tokio::select! {
                () = &mut end => return Ok(()),
                told = updates.next() => told,
            };
            let Some((service, update)) = told else {
                return Err(CommandError::Failed("the connection to the broker was closed for good".into()));
            };
            printer.print(service.as_ref(), &update);
            changes_left -= u64::from(matches!(update, Update::Change(_)));
        }
        Ok(())
    }

    async fn open(
        &self,
        session: &Session,
        services: &BTreeSet<&ServiceName>,
    ) -> Result<SelectAll<futures::stream::BoxStream<'static, Told>>, CommandError> {
        let subjects = session.subjects();
        let failed = |error: muster_discovery::Error| CommandError::Failed(error.to_string());
        let discovery = Discovery::builder()
            .client(session.client().clone())
            .namespace(subjects.namespace().as_str())
            .prefix(subjects.prefix().as_str())
            .connect()
            .await
            .map_err(failed)?;
        let tagged = |service: Option<ServiceName>, watch: Watch| {
            let watch = watch.filtered(self.filter());
            watch.map(move |update| (service.clone(), update)).boxed()
        };
        if services.is_empty() {
            return Ok(select_all([tagged(None, discovery.watch_all())]));
        }
        let watches = services.iter().map(|service| {
            let watch = discovery.watch(service.as_str()).map_err(failed)?;
            Ok(tagged(Some((*service).clone()), watch))
        });
        Ok(select_all(watches.collect::<Result<Vec<_>, CommandError>>()?))
    }

    fn filter(&self) -> Filter {
        let mut filter = self.tag.iter().fold(Filter::new(), Filter::tag);
        if self.routable {
            filter = filter.routable();
        }
        match &self.of_version {
            Some(version) => filter.version(version),
            None => filter,
        }
    }

    /// Ctrl-C, or the time is over.
    async fn end(&self, stop: &Stop) {
        let period = self.period.map_or(Duration::MAX, Period::as_duration);
        tokio::select! {
            () = stop.requested() => {}
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// What a watch needs of the broker, which would otherwise refuse it without a word.
fn needs(session: &Session, services: &BTreeSet<&ServiceName>) -> Vec<Need> {
    let subjects = session.subjects();
    if services.is_empty() {
        return vec![
            Need::subscribe(subjects.all_changes()),
            Need::subscribe(subjects.all_pulses()),
            Need::publish(subjects.query(&Query::Snapshot)),
        ];
    }
    let of_service = |service: &&ServiceName| {
        [
            Need::subscribe(subjects.change(service)),
            Need::subscribe(subjects.pulse(bucket(service))),
            Need::publish(subjects.query(&Query::Service((*service).clone()))),
        ]
    };
    services.iter().flat_map(of_service).collect()
}

enum Printer {
    People(Lines),
    Programs,
}

impl Printer {
    fn new(json: bool, of_one_service: bool) -> Self {
        if json { Self::Programs } else { Self::People(Lines::new(of_one_service)) }
    }

    fn print(&mut self, service: Option<&ServiceName>, update: &Update) {
        match self {
            Self::Programs => record(service, update).iter().for_each(print_json),
            Self::People(lines) => lines.of(service, update).iter().for_each(|line| print_line(line)),
        }
    }
}
