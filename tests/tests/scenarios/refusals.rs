//! Scenario 23: wrong credentials and wrong permissions are told within a second, and once.

use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use muster_discovery::{Discovery, ErrorKind};
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually, throughout};

use crate::world::SOON;

/// Whoever may do everything, and whoever may hardly do anything.
const USERS: &str = "authorization { users: [
    { user: all, password: secret },
    { user: narrow, password: secret, permissions: {
        publish: [\"$JS.API.INFO\", \"_INBOX.>\", \"muster.default.query.>\"], subscribe: [\"_INBOX.>\"] } } ] }";

/// How often something is tried whose time a busy machine may spoil.
const TRIES: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

struct Place {
    broker: NatsServer,
    directory: tempfile::TempDir,
}

impl Place {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, password) in [("right", "secret"), ("wrong", "guess")] {
            std::fs::write(directory.path().join(name), password).expect("written");
        }
        Self { broker: NatsServer::builder().settings(USERS).start().await, directory }
    }

    fn program(&self, program: &str, user: &str, password: &str) -> ProcessBuilder {
        ProcessBuilder::new(bin(program)).current_dir(self.directory.path()).args([
            "--server",
            &self.broker.url(),
            "--user",
            user,
            "--password-file",
            password,
        ])
    }

    fn agent(&self, user: &str, password: &str, flags: &[&str]) -> Process {
        let builder = self.program("muster-agent", user, password);
        let builder = builder.args(["--agent-id", "a", "--state-dir", "state", "--advertise", "127.0.0.1"]).args(flags);
        let run = ["run", "--service", "orders", "--instance", "a", "--", "sh", "-c", "exec sleep 600"];
        builder.args(run).start()
    }

    async fn consumer(&self, password: &str, user: &str) -> Result<(), ErrorKind> {
        let options = ConnectOptions::with_user_and_password(user.into(), password.into());
        let builder = Discovery::builder().server(self.broker.url()).options(options);
        let discovery = builder.patience(Duration::from_millis(20)).connect().await.map_err(|error| error.kind())?;
        eventually("a list, or an error", SOON, async || match discovery.instances("orders").await {
            Err(error) => Ok(Err(error.kind())),
            Ok(list) if list.is_verified() => Ok(Ok(())),
            Ok(list) => Err(list.state()),
        })
        .await
    }
}

/// Tries until it takes less than a second; how long the fastest took.
async fn fastest(mut attempt: impl AsyncFnMut()) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..TRIES {
        let began = Instant::now();
        attempt().await;
        fastest = fastest.min(began.elapsed());
        if fastest < SECOND {
            break;
        }
    }
    fastest
}

async fn ends_with_77(mut process: Process, told: &str) {
    let status = process.wait_exit(SOON).await;
    let lines = process.lines();
    assert_eq!(status.code(), Some(77), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.text.contains(told)).count(), 1, "{lines:?}");
    assert!(lines.len() <= 5, "a flood: {lines:?}");
}

#[tokio::test]
async fn wrong_credentials_are_a_clear_error_within_a_second() {
    let place = Place::start().await;
    let told = "refuses the credentials";
    let took =
        fastest(async || ends_with_77(place.program("muster-registry", "all", "wrong").start(), told).await).await;
    assert!(took < SECOND, "a registry took {took:?}");
    let demanding = ["--require-registration", "--registration-within", "500ms"];
    let took = fastest(async || ends_with_77(place.agent("all", "wrong", &demanding), told).await).await;
    assert!(took < SECOND, "an agent took {took:?}");
    let refused = async || assert_eq!(place.consumer("guess", "all").await, Err(ErrorKind::CredentialsRefused));
    let took = fastest(refused).await;
    assert!(took < SECOND, "a consumer took {took:?}");
}

#[tokio::test]
async fn wrong_permissions_are_a_clear_error_within_a_second() {
    let place = Place::start().await;
    let told = "grant these permissions";
    let took =
        fastest(async || ends_with_77(place.program("muster-registry", "narrow", "right").start(), told).await).await;
    assert!(took < SECOND, "a registry took {took:?}");
    let demanding = ["--require-registration", "--registration-within", "500ms"];
    let took = fastest(async || ends_with_77(place.agent("narrow", "right", &demanding), told).await).await;
    assert!(took < SECOND, "an agent took {took:?}");
    let refused = async || assert_eq!(place.consumer("secret", "narrow").await, Err(ErrorKind::PermissionDenied));
    let took = fastest(refused).await;
    assert!(took < SECOND, "a consumer took {took:?}");
}

/// Its service runs, and it goes on trying.
#[tokio::test]
async fn an_agent_that_is_refused_for_seconds_does_not_flood_its_log() {
    let place = Place::start().await;
    for (user, password) in [("all", "wrong"), ("narrow", "right")] {
        let mut agent = place.agent(user, password, &[]);
        agent.wait_for_line("refuses", SOON).await;
        throughout("it says little", Duration::from_secs(4), async || match (agent.exit(), agent.lines().len()) {
            (None, 0..=8) => Ok(()),
            other => Err(format!("{other:?}: {:?}", agent.lines())),
        })
        .await;
    }
}
