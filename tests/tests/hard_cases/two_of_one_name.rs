//! Two processes under one name: the later one wins, the other ends and says why; two registries go on, and say so.

use std::time::Duration;

use muster_tests::process::Signal;
use muster_tests::{Process, eventually, throughout};

use crate::children::until_dead;
use crate::support::{SOON, World, program, texts};

impl World {
    /// An agent under the name that is taken, with a service of its own.
    fn same(&self, service: &str) -> Process {
        let script = format!("echo $$ > {service}.pid; exec sleep 600");
        let run = ["--service", service, "--instance", "a", "--ttl", "2s", "--", "sh", "-c", &script];
        self.agent(&["--agent-id", "same"]).args(run).start()
    }

    async fn pid_of(&self, service: &str) -> String {
        let path = self.directory.path().join(format!("{service}.pid"));
        eventually(format!("{service} tells its process number"), SOON, async || {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            if text.ends_with('\n') { Ok(text.trim().to_owned()) } else { Err(text) }
        })
        .await
    }

    async fn is_held(&self, service: &str) -> Result<bool, String> {
        let reply = self.try_ask(&format!("query.service.{service}"), "").await?;
        Ok(reply.services[0].total == 1)
    }
}

#[tokio::test]
async fn of_two_agents_of_one_id_that_start_together_one_stays_and_the_other_ends_with_75() {
    let world = World::start().await;
    let mut agents = [("orders", world.same("orders")), ("users", world.same("users"))];
    let ended = eventually("one of them ends", SOON, async || {
        agents.iter_mut().position(|(_, agent)| agent.exit().is_some()).ok_or("both run")
    });
    let ended = ended.await;
    let (service, loser) = &mut agents[ended];
    let status = loser.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(75), "{}", texts(&loser.lines()));
    loser.wait_for_line("another process runs under the same agent id", SOON).await;
    until_dead(&world.pid_of(service).await).await;
    let (lost, kept) = if ended == 0 { ("orders", "users") } else { ("users", "orders") };
    eventually("what the loser vouched for is gone, and what the winner does is there", SOON, async || {
        match (world.is_held(lost).await?, world.is_held(kept).await?) {
            (false, true) => Ok(()),
            held => Err(format!("{held:?}")),
        }
    })
    .await;
    throughout("the winner runs", Duration::from_millis(500), async || match agents[1 - ended].1.exit() {
        None => Ok(()),
        Some(status) => Err(status.to_string()),
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_was_frozen_while_another_took_its_id_ends_with_75_when_it_thaws() {
    let world = World::start().await;
    let mut first = world.same("orders");
    first.wait_for_line(": registered after_ms=", SOON).await;
    let child = world.pid_of("orders").await;
    first.freeze();
    let mut second = world.same("users");
    second.wait_for_line(": registered after_ms=", SOON).await;
    first.thaw();
    let status = first.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(75), "{}", texts(&first.lines()));
    until_dead(&child).await;
    assert_eq!(second.exit(), None);
    assert!(world.is_held("users").await.expect("an answer"));
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait_exit(SOON).await.code(), Some(143));
}

#[tokio::test]
async fn two_registries_of_one_replica_id_say_so_seldom_and_go_on() {
    let world = World::start().await;
    let second = program("muster-registry", &world.directory)
        .args(["--server", &world.broker.url(), "--replica-id", "r1", "--listen-period", "200ms"])
        .start();
    for registry in [&world.registry, &second] {
        let said = registry.wait_for_line("calls itself replica r1 too", SOON).await;
        assert!(said.text.contains("give each its own id"), "{}", said.text);
    }
    let arguments =
        ["register", "orders", "--instance", "a", "--port", "http=80", "--advertise", "10.0.0.9", "--static"];
    world.run(&arguments).await.expect_code(0);
    throughout("questions are answered", Duration::from_secs(2), async || match world.is_held("orders").await {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for registry in [&world.registry, &second] {
        let said = registry.lines().into_iter().filter(|line| line.text.contains("calls itself")).count();
        assert_eq!(said, 1, "{}", texts(&registry.lines()));
    }
}
