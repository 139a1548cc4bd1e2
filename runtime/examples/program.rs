//! A whole daemon in forty lines: settings, log, stop, metrics and health, broker, exit code.
//!
//! Try: `cargo run -p muster-runtime --example program -- --help`, or `--server nowhere:1 --http 127.0.0.1:0`.

use std::process::ExitCode;

use muster_runtime::broker::{BrokerError, BrokerSettings, Role};
use muster_runtime::exit::{Exit, ExitReason};
use muster_runtime::http::{HttpError, HttpSettings, Readiness};
use muster_runtime::logging::LogSettings;
use muster_runtime::metrics::{MetricDoc, Metrics, Unit};
use muster_runtime::settings::{Check, Period, Program, Settings};
use muster_runtime::stop::Stop;

/// Connects to the broker, says that it is ready, and waits to be stopped.
#[derive(Debug, clap::Parser)]
#[command(name = "muster-example")]
struct ExampleSettings {
    #[command(flatten)]
    broker: BrokerSettings,
    #[command(flatten)]
    log: LogSettings,
    #[command(flatten)]
    http: HttpSettings,
    /// How often a mark is sent
    #[arg(long, value_name = "PERIOD", default_value = "200ms")]
    mark_interval: Period,
}

impl Settings for ExampleSettings {
    fn check(&mut self, check: &mut Check) {
        self.broker.check(check);
        if self.mark_interval.as_ms() == 0 {
            check.refuse("mark_interval", "must be longer than nothing; 200ms is usual");
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum RunError {
    Broker(#[from] BrokerError),
    Http(#[from] HttpError),
    Signals(#[from] std::io::Error),
}

impl ExitReason for RunError {
    fn exit(&self) -> Exit {
        match self {
            Self::Broker(error) => error.exit(),
            Self::Http(error) => error.exit(),
            Self::Signals(_) => Exit::Failed,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let loaded = Program::new("example").metrics(metric_docs).load_or_exit::<ExampleSettings>();
    loaded.settings.log.start();
    loaded.log_warnings();
    match run(&loaded.settings).await {
        Ok(()) => Exit::Success.into(),
        Err(error) => error.exit().report("muster-example", error),
    }
}

async fn run(settings: &ExampleSettings) -> Result<(), RunError> {
    let stop = Stop::on_signals()?;
    let metrics = Metrics::new();
    register(&metrics).set(settings.mark_interval.as_duration().as_secs().cast_signed());
    let http = settings.http.start(&metrics, &stop).await?;
    let connection = settings.broker.connect(Role::new("muster-example").needs_jetstream()).await?;
    if let Some(http) = &http {
        http.set(Readiness::ready("ready"));
    }
    tracing::info!(connection = connection.name(), "ready");
    stop.requested().await;
    Ok(())
}

fn register(metrics: &Metrics) -> muster_runtime::metrics::Gauge {
    metrics.gauge("mark_interval", Unit::Seconds, "How often a mark is sent")
}

fn metric_docs() -> Vec<MetricDoc> {
    let metrics = Metrics::new();
    register(&metrics);
    metrics.docs()
}
