//! How much is logged about a broker that cannot be used: one line in ten seconds, and none of the client library's.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use muster_runtime::broker::{BrokerSettings, Role};
use muster_tests::NatsServer;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Parser)]
struct Only {
    #[command(flatten)]
    broker: BrokerSettings,
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The only test of this file, for the limit is the process's.
#[tokio::test]
async fn refused_credentials_are_logged_once_although_three_connections_try_again_and_again() {
    let captured = Captured::default();
    let filter = EnvFilter::new(muster_runtime::logging::filter("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(captured.clone()).init();

    let server = NatsServer::builder().settings("authorization { token: sesame }").start().await;
    let settings = Only::parse_from(["test", "--server", &server.url()]).broker;
    for name in ["input", "output", "requests"] {
        let connection = settings.connect_in_background(Role::new(name)).await.unwrap();
        let mut events = connection.events();
        for attempt in 1..=4 {
            tokio::time::timeout(Duration::from_secs(10), events.recv())
                .await
                .unwrap_or_else(|_| panic!("{name}: attempt {attempt} was not reported"))
                .unwrap();
        }
    }
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("refuses the credentials").count(), 1, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
