//! Output that nobody reads: a command ends quietly, and a program that has work to do goes on.

use muster_tests::process::Signal;
use muster_tests::{Process, ProcessBuilder, bin, eventually};

use crate::support::{Ended, SOON, World};

/// Where the output goes.
#[derive(Clone, Copy, Debug)]
enum Output {
    /// Into a pipe that nobody reads any more, as after `| head`.
    Broken,
    /// Nowhere: the descriptor was closed.
    Closed,
}

/// Runs a program whose standard output, and its errors too if asked for, end so.
fn without_readers(world: &World, output: Output, errors_too: bool, program: &str, arguments: &[&str]) -> Process {
    // Opened for both, then only for writing: at the end nobody reads.
    let broken = "rm -f pipe.$$; mkfifo pipe.$$; exec 3<>pipe.$$ 4>pipe.$$ 3>&-; rm pipe.$$; ";
    let redirected = match (output, errors_too) {
        (Output::Broken, false) => "exec \"$@\" >&4 4>&-",
        (Output::Broken, true) => "exec \"$@\" >&4 2>&4 4>&-",
        (Output::Closed, false) => "exec \"$@\" >&- 4>&-",
        (Output::Closed, true) => "exec \"$@\" >&- 2>&- 4>&-",
    };
    ProcessBuilder::new("/bin/sh")
        .name(program)
        .current_dir(world.directory.path())
        .env("HOME", world.directory.path())
        .env("NATS_URL", world.broker.url())
        .args(["-c", &format!("{broken}{redirected}"), "sh"])
        .arg(bin(program))
        .args(arguments)
        .start()
}

async fn world_with_an_instance() -> World {
    let world = World::start().await;
    let arguments =
        ["register", "orders", "--instance", "a", "--port", "http=80", "--advertise", "10.0.0.9", "--static"];
    world.run(&arguments).await.expect_code(0);
    world
}

#[tokio::test]
async fn a_command_whose_reader_has_gone_ends_quietly() {
    let world = world_with_an_instance().await;
    for arguments in [
        &["services"][..],
        &["instances", "orders", "--json"],
        &["snapshot", "--json"],
        &["watch", "orders"],
        &["watch", "--json"],
        &["why", "orders"],
        &["status"],
        &["doctor"],
        &["completions", "bash"],
    ] {
        let mut process = without_readers(&world, Output::Broken, false, "muster", arguments);
        let ended = Ended::of(&mut process).await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(141), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_command_without_any_output_does_its_work() {
    let world = world_with_an_instance().await;
    for arguments in [&["services"][..], &["instances", "orders"], &["why", "orders"], &["completions", "bash"]] {
        let mut process = without_readers(&world, Output::Closed, false, "muster", arguments);
        Ended::of(&mut process).await.expect_code(0);
    }
    let mut process = without_readers(&world, Output::Closed, true, "muster", &["deregister", "orders", "a"]);
    Ended::of(&mut process).await.expect_code(0);
    assert_eq!(world.status().await.instances, 0);
}

/// What it vouches for lives on, whoever stopped reading.
#[tokio::test]
async fn a_command_that_vouches_goes_on_vouching() {
    for output in [Output::Broken, Output::Closed] {
        let world = World::start().await;
        let arguments = ["register", "orders", "--instance", "a", "--state-dir", "state"];
        let mut process = without_readers(&world, output, true, "muster", &arguments);
        until_registered(&world).await;
        process.signal(Signal::SIGTERM);
        Ended::of(&mut process).await.expect_code(0);
        assert_eq!(world.status().await.instances, 0);
    }
}

async fn until_registered(world: &World) {
    eventually("the instance is registered", SOON, async || {
        world.try_ask("query.instance.orders.a", "").await.map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn registries_and_agents_work_without_anybody_who_reads_their_logs() {
    for output in [Output::Broken, Output::Closed] {
        let mut world = World::start().await;
        world.registry.stop(SOON).await;
        let url = world.broker.url();
        let mut registry = without_readers(
            &world,
            output,
            true,
            "muster-registry",
            &["--server", &url, "--replica-id", "r2", "--listen-period", "200ms"],
        );
        let flags = ["--server", &url, "--advertise", "127.0.0.1", "--agent-id", "web1", "--state-dir", "state"];
        // One that prints would end, as programs do whose reader has gone.
        let run = ["run", "--service", "orders", "--instance", "a", "--", "sleep", "600"];
        let mut agent = without_readers(&world, output, true, "muster-agent", &[&flags[..], &run].concat());
        until_registered(&world).await;
        let replica = world.status().await.replica;
        assert_eq!(replica.as_str(), "r2");
        assert_eq!(agent.stop(SOON).await.code(), Some(143), "{output:?}");
        assert_eq!(registry.stop(SOON).await.code(), Some(0), "{output:?}");
    }
}

#[tokio::test]
async fn a_refusal_that_nobody_reads_keeps_its_code() {
    let script = format!("exec {} --nonesuch >&- 2>&-", bin("muster").display());
    let mut process = ProcessBuilder::new("/bin/sh").args(["-c", &script]).start();
    assert_eq!(process.wait_exit(SOON).await.code(), Some(64));
}
