//! A hundred thousand agents with twenty instances each, in virtual time: the registry's own core, whole, with a log, its
//! marks and its probes simulated around it. What it spends on them, what it holds, and how fast it gives up who is dead.

mod world;

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::world::World;
use super::Context;
use crate::measure::resident_bytes;
use crate::report::{MUSTER, Report};

/// Instances of each agent.
const INSTANCES_EACH: usize = 20;
/// Agents that die together.
const RACK: usize = 40;

/// The same fleet, small: for `--quick`.
const SMALL: usize = 5_000;
const FULL: usize = 100_000;

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let agents = context.size(FULL, SMALL);
    let work = if agents == FULL { "simulated fleet of 100,000 agents" } else { "simulated fleet of 5,000 agents" };
    let output = Command::new(std::env::current_exe()?).args(["fleet", &agents.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    report.lines_of_child(work, MUSTER, &String::from_utf8(output.stdout)?)
}

/// In a process of its own: prints metric, value, unit and count, a line each.
pub(crate) fn simulate(agents: usize) -> Result<()> {
    let say = |metric: &str, value: f64, unit: &str, count: u64| println!("{metric}\t{value}\t{unit}\t{count}");
    let instances = (agents * INSTANCES_EACH) as u64;
    let empty = resident_bytes(std::process::id())?;
    let mut world = World::new()?;
    world.until("the log has begun", 10_000, World::is_serving)?;

    let agents_each_tick = (agents / 2_000).max(10);
    let spent = world.spent;
    for first in (0..agents).step_by(agents_each_tick) {
        world.register(first..agents.min(first + agents_each_tick))?;
        world.tick();
    }
    world.until("all are registered", 30_000, |world| world.instances() == instances)?;
    say("registrations", us(world.spent - spent) / instances as f64, "us/op", instances);
    let memory = resident_bytes(std::process::id())? - empty - world.own_bytes() as f64;
    say("memory each", memory / instances as f64, "bytes", instances);

    let (spent, beats) = (world.spent, world.beats);
    world.run(20_000);
    say("processor, heartbeats alone", percent(world.spent - spent, 20_000), "% of a core", world.beats - beats);

    // A rack: everything is given up at once, after a probe of each agent.
    let dead = (RACK * INSTANCES_EACH) as u64;
    let died_ms = world.now_ms;
    world.kill(0..RACK);
    world.until("the rack is removed", 60_000, |world| world.instances() == instances - dead)?;
    let took_ms = world.now_ms - died_ms;
    say("rack of 40 agents dead, all removed", took_ms as f64 / 1_000.0, "s", dead);

    // Many die: no more than a tenth of the fleet is given up in a second.
    let many = agents / 5;
    let (died_ms, before) = (world.now_ms, world.instances());
    world.forget_pace();
    world.kill(RACK..RACK + many);
    let left = before - (many * INSTANCES_EACH) as u64;
    world.until("a fifth of the fleet is removed", 600_000, |world| world.instances() == left)?;
    let took_ms = world.now_ms - died_ms;
    say("a fifth of the fleet dead, all removed", took_ms as f64 / 1_000.0, "s", before - left);
    say(
        "removed within a second at most",
        world.pace() as f64 * 100.0 / before as f64,
        "% of the fleet",
        before - left,
    );

    // A tenth restarts within a minute, one event for the end and one for the beginning of each.
    let restarting = agents / 10;
    let first = RACK + many;
    let (spent, began_ms, published) = (world.spent, world.now_ms, world.changes_published());
    let ticks = 60_000 / world::TICK_MS as usize;
    let mut done = 0;
    for tick in 1..=ticks {
        let until = restarting * tick / ticks;
        world.restart(first + done..first + until)?;
        done = until;
        world.tick();
    }
    world.until("all are back", 10_000, |world| world.instances() == left)?;
    let events = (2 * restarting * INSTANCES_EACH) as u64;
    say("processor, storm of restarts", percent(world.spent - spent, world.now_ms - began_ms), "% of a core", events);
    let changes = world.changes_published() - published;
    ensure!(changes >= events / 2, "{changes} changes of {events} events");
    say("changes published in the storm", changes as f64, "", events);

    world.run(20_000);
    say("false removals", left.saturating_sub(world.instances()) as f64, "", left);
    say("virtual time", world.now_ms as f64 / 1_000.0, "s", 1);
    say("real time of the core", world.spent.as_secs_f64(), "s", 1);
    Ok(())
}

fn us(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e6
}

/// Percent of one core that this is of so much virtual time.
fn percent(spent: Duration, virtual_ms: u64) -> f64 {
    spent.as_secs_f64() * 100_000.0 / virtual_ms as f64
}
