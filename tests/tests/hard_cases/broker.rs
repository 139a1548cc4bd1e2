//! Brokers that Muster cannot work with: each program says so within a second or so, and ends with the code that fits; an
//! agent whose service does not wait for its registration lets it run.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use muster_tests::process::Line;
use muster_tests::{NatsServer, Process, free_port};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Ended, SOON, agent, directory, program, texts};

/// A second, and what a busy machine takes.
const QUICKLY: Duration = Duration::from_secs(3);

/// A program that cannot do without a broker, for the same broker as the others.
struct Case {
    directory: TempDir,
    server: String,
    credentials: Vec<String>,
}

impl Case {
    fn new(server: String) -> Self {
        Self { directory: directory(), server, credentials: Vec::new() }
    }

    fn with_user(mut self, user: &str, password: &str) -> Self {
        std::fs::write(self.directory.path().join("password"), password).expect("written");
        self.credentials = ["--user", user, "--password-file", "password"].map(str::to_owned).into();
        self
    }

    fn registry(&self) -> Process {
        let builder = program("muster-registry", &self.directory).args(["--server", &self.server]);
        builder.args(&self.credentials).start()
    }

    fn muster(&self, arguments: &[&str]) -> Process {
        let builder = program("muster", &self.directory).args(arguments).args(["--server", &self.server]);
        builder.args(&self.credentials).start()
    }

    fn register(&self) -> Process {
        self.muster(&["register", "orders", "--instance", "a", "--state-dir", "state"])
    }

    fn agent(&self, flags: &[&str]) -> Process {
        let flags: Vec<&str> = self.credentials.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let run = ["--service", "orders", "--instance", "a", "--", "sh", "-c", "echo started; exec sleep 600"];
        agent(&self.directory, &self.server, &flags).args(run).start()
    }

    fn demanding_agent(&self) -> Process {
        self.agent(&["--require-registration", "--registration-within", "500ms"])
    }
}

/// Ends soon, with this code, one complaint that holds these words, and hardly a line beside it.
async fn ends_soon(mut process: Process, code: i32, told: &[&str]) {
    let began = Instant::now();
    let status = process.wait_exit(SOON).await;
    let took = began.elapsed();
    let lines = process.lines();
    assert_eq!(status.code(), Some(code), "{}", texts(&lines));
    assert!(took < QUICKLY, "{took:?}:{}", texts(&lines));
    let is_complaint = |line: &&Line| told.iter().all(|part| line.text.contains(part));
    assert_eq!(lines.iter().filter(is_complaint).count(), 1, "one line with {told:?}:{}", texts(&lines));
    assert!(lines.len() <= 5, "{}", texts(&lines));
    assert!(!lines.iter().any(|line| line.text.contains("panicked")), "{}", texts(&lines));
}

/// Its service runs, and it says once what the matter is.
async fn lets_the_service_run(process: Process, told: &str) {
    process.wait_for_line("started", SOON).await;
    process.wait_for_line(told, QUICKLY).await;
}

#[tokio::test]
async fn an_absent_broker() {
    let server = format!("nats://127.0.0.1:{}", free_port());
    let case = Case::new(server.clone());
    let told = [server.as_str(), "refused", "--server"];
    tokio::join!(
        ends_soon(case.registry(), 69, &told),
        ends_soon(case.muster(&["services"]), 69, &told),
        ends_soon(case.register(), 69, &told),
        ends_soon(case.demanding_agent(), 69, &told),
        lets_the_service_run(case.agent(&[]), "no connection to the broker"),
    );
}

/// Accepts connections and never says a word.
#[tokio::test]
async fn a_broker_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let case = Case::new(format!("nats://{}", silent.local_addr().expect("bound")));
    let told = ["no answer within 1s"];
    tokio::join!(
        ends_soon(case.registry(), 69, &told),
        ends_soon(case.muster(&["services"]), 69, &told),
        ends_soon(case.register(), 69, &told),
        ends_soon(case.demanding_agent(), 69, &told),
    );
}

#[tokio::test]
async fn a_broker_without_jetstream() {
    let broker = NatsServer::builder().without_jetstream().start().await;
    let case = Case::new(broker.url());
    let told = ["offers no JetStream", "-js"];
    tokio::join!(
        ends_soon(case.registry(), 69, &told),
        ends_soon(case.register(), 69, &told),
        lets_the_service_run(case.agent(&[]), "has the broker JetStream?"),
    );
}

/// Each program says which version it has, as far as that is known here, and which it needs.
async fn is_too_old(case: &Case, version: &str) {
    let told = [version, "2.11 or newer", "upgrade nats-server"];
    tokio::join!(
        ends_soon(case.registry(), 69, &told),
        ends_soon(case.muster(&["services"]), 69, &told),
        ends_soon(case.register(), 69, &told),
        ends_soon(case.demanding_agent(), 69, &told),
        lets_the_service_run(case.agent(&[]), "2.11 or newer"),
    );
}

#[tokio::test]
async fn a_broker_that_is_too_old() {
    let old = impostor("2.10.29").await;
    is_too_old(&Case::new(format!("nats://{old}")), "2.10.29").await;
}

/// The same with a real server, if one is named.
#[tokio::test]
async fn a_real_broker_that_is_too_old_if_there_is_one() {
    let Some(binary) = std::env::var_os("MUSTER_TEST_OLD_NATS_SERVER") else {
        eprintln!("skipped: MUSTER_TEST_OLD_NATS_SERVER names no nats-server older than 2.11");
        return;
    };
    let broker = NatsServer::builder().binary(std::path::PathBuf::from(binary)).start().await;
    is_too_old(&Case::new(broker.url()), "").await;
}

#[tokio::test]
async fn a_broker_that_refuses_the_credentials() {
    let settings = "authorization { users: [ { user: all, password: secret } ] }";
    let broker = NatsServer::builder().settings(settings).start().await;
    for case in [Case::new(broker.url()), Case::new(broker.url()).with_user("all", "wrong")] {
        let told = ["refuses the credentials", "--creds"];
        tokio::join!(
            ends_soon(case.registry(), 77, &told),
            ends_soon(case.muster(&["services"]), 77, &told),
            ends_soon(case.register(), 77, &told),
            ends_soon(case.demanding_agent(), 77, &told),
            lets_the_service_run(case.agent(&[]), "refuses the credentials"),
        );
    }
}

#[tokio::test]
async fn a_broker_that_refuses_subjects() {
    let settings = "authorization { users: [ { user: narrow, password: secret, permissions: {
        publish: [\"$JS.API.INFO\", \"_INBOX.>\"], subscribe: [\"_INBOX.>\"] } } ] }";
    let broker = NatsServer::builder().settings(settings).start().await;
    let case = Case::new(broker.url()).with_user("narrow", "secret");
    let told = ["the broker refuses", "grant these permissions"];
    let register = [told[0], told[1], "publishing to `muster.default.event.register.orders.a."];
    let watch = [told[0], told[1], "subscribing to `muster.default.change.orders`"];
    tokio::join!(
        ends_soon(case.registry(), 77, &told),
        ends_soon(case.muster(&["watch", "orders"]), 77, &watch),
        ends_soon(case.register(), 77, &register),
        ends_soon(case.demanding_agent(), 77, &register),
        lets_the_service_run(case.agent(&[]), register[2]),
    );
}

/// A server of another version, as far as a client can see at the beginning.
async fn impostor(version: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let info = format!(
        "INFO {{\"server_id\":\"x\",\"server_name\":\"old\",\"version\":\"{version}\",\"host\":\"127.0.0.1\",\
         \"port\":{},\"max_payload\":1048576,\"jetstream\":true,\"headers\":true}}\r\n",
        address.port()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, info.clone()));
        }
    });
    address
}

async fn speak(mut stream: TcpStream, info: String) {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let mut said = write.write_all(info.as_bytes()).await;
    while let (Ok(()), Ok(Some(line))) = (&said, lines.next_line().await) {
        said = if line.starts_with("PING") { write.write_all(b"PONG\r\n").await } else { Ok(()) };
    }
}

/// What none of the programs survives is a wrong setting: told before anything is tried.
#[tokio::test]
async fn settings_that_lead_to_no_broker() {
    let case = Case::new("http://127.0.0.1:4222".to_owned());
    for process in [case.registry(), case.muster(&["services"]), case.agent(&[])] {
        ends_soon(process, 64, &["--server = `http://127.0.0.1:4222`", "nats://HOST:PORT"]).await;
    }
    let mut case = Case::new("nats://127.0.0.1:4222".to_owned());
    case.credentials = ["--creds", "missing.creds"].map(str::to_owned).into();
    let ended = Ended::of(&mut case.registry()).await.expect_code(64);
    assert!(ended.stderr.contains("missing.creds"), "{ended:?}");
}
