//! One process that holds from a thousand to a million instances: memory, what a heartbeat and a change cost, how long it
//! takes to begin from a checkpoint and from the log. The registry's own core, without a broker: each size in a process of
//! its own.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use muster_registry::checkpoint_threads::CheckpointThreads;
use muster_registry::core::catalog::Catalog;
use muster_registry::core::catalog::checkpoint::{Checkpoint, Restoring};
use muster_registry::core::io::Record;
use muster_registry::core::leases::{Heard, Leases};
use muster_schemas::event::{EpochBegan, Event, EventData, Source};
use muster_schemas::heartbeat::Heartbeat;
use muster_schemas::{AgentId, Digest, EpochId, FOLD_VERSION, ReplicaId, Subjects, Timestamp};

use super::Context;
use crate::measure::{cpu_seconds, resident_bytes};
use crate::payload::{SESSION, agent, event, fleet_digest, fleet_member, subjects};
use crate::report::{MUSTER, Report};

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let sizes: &[(usize, &str)] = &[
        (1_000, "catalog of 1,000 instances"),
        (10_000, "catalog of 10,000 instances"),
        (100_000, "catalog of 100,000 instances"),
        (1_000_000, "catalog of 1,000,000 instances"),
    ];
    for (size, work) in &sizes[..context.size(4, 3)] {
        let output = Command::new(std::env::current_exe()?).args(["catalog", &size.to_string()]).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8(output.stdout)?.lines() {
            let mut fields = line.split('\t');
            let mut next = || fields.next().context("a short line");
            let (metric, value, unit, count) = (next()?, next()?.parse()?, next()?, next()?.parse()?);
            let unit = ["bytes", "s", "ns/op"].into_iter().find(|known| *known == unit).context("a unit")?;
            report.add(work, MUSTER, metric, value, unit, count);
        }
    }
    Ok(())
}

/// In a process of its own: prints metric, value, unit and count, a line each.
pub(crate) fn measure(instances: usize) -> Result<()> {
    let say = |metric: &str, value: f64, unit: &str, count: usize| println!("{metric}\t{value}\t{unit}\t{count}");
    let subjects = subjects();
    let empty = resident_bytes(std::process::id())?;
    let mut held = Held::new(&subjects)?;
    let folding = held.register_all(instances)?;
    say("start from the log", folding, "s", instances);

    let json = held.json_bytes();
    say("JSON each", json / instances as f64, "bytes", instances);
    say("heartbeat", held.heartbeats(instances)?, "ns/op", BEATS);
    say("change", held.changes(instances)?, "ns/op", CHANGES);

    let checkpoint = Checkpoint::of(&held.catalog, None).context("no log is in force")?;
    let mut written = Vec::new();
    let began = Instant::now();
    checkpoint.write(&mut written)?;
    say("checkpoint written", began.elapsed().as_secs_f64(), "s", instances);
    say("checkpoint", written.len() as f64, "bytes", instances);
    drop((checkpoint, held));

    // What a process holds that has begun from a checkpoint: nothing is left over from before.
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &written)?;
    drop(written);
    let path = file.path().to_str().context("a path")?;
    if std::env::var_os(RESTORE).is_none() {
        let output = Command::new(std::env::current_exe()?)
            .args(["catalog", &instances.to_string()])
            .env(RESTORE, path)
            .env("MUSTER_BENCH_JSON_BYTES", json.to_string())
            .env("MUSTER_BENCH_EMPTY_BYTES", empty.to_string())
            .output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8(output.stdout)?);
    }
    Ok(())
}

/// Names the checkpoint that a process is to begin from.
pub(crate) const RESTORE: &str = "MUSTER_BENCH_RESTORE";

/// In a process of its own: begins from a checkpoint, and says what that took.
pub(crate) fn restore(instances: usize) -> Result<()> {
    let say = |metric: &str, value: f64, unit: &str, count: usize| println!("{metric}\t{value}\t{unit}\t{count}");
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let path = std::env::var_os(RESTORE).context("no checkpoint is named")?;
    let mut file = std::io::BufReader::with_capacity(128 * 1024, std::fs::File::open(path)?);
    let empty = resident_bytes(std::process::id())?;
    let (began, cpu_before) = (Instant::now(), cpu_seconds(std::process::id())?);
    let mut restoring = Restoring::read_by(CheckpointThreads::begin());
    loop {
        let bytes = std::io::BufRead::fill_buf(&mut file)?;
        if bytes.is_empty() {
            break;
        }
        restoring.feed(bytes)?;
        let length = bytes.len();
        std::io::BufRead::consume(&mut file, length);
    }
    let (checkpoint, _) = restoring.finish()?;
    let replica = ReplicaId::new("r1")?;
    let mut leases = Leases::new(subjects(), &replica);
    leases.begin_from(&checkpoint);
    // As a replica does: it holds the catalog, and the checkpoint no more.
    let catalog = checkpoint.catalog().clone();
    drop(checkpoint);
    say("start from checkpoint", began.elapsed().as_secs_f64(), "s", instances);
    let cpu = cpu_seconds(std::process::id())? - cpu_before;
    say("start from checkpoint, processor", cpu, "s", instances);
    let memory = resident_bytes(std::process::id())? - empty;
    say("memory each", memory / instances as f64, "bytes", instances);
    let beyond = (memory - number("MUSTER_BENCH_JSON_BYTES")) / instances as f64;
    say("memory beyond JSON each", beyond, "bytes", instances);
    drop((catalog, leases));
    Ok(())
}

const CHANGES: usize = 20_000;
const BEATS: usize = 200_000;

struct Held<'a> {
    subjects: &'a Subjects,
    catalog: Catalog,
    leases: Leases,
    sequence: u64,
}

impl<'a> Held<'a> {
    /// A log that has begun.
    fn new(subjects: &'a Subjects) -> Result<Self> {
        let replica = ReplicaId::new("r1")?;
        let mut held = Self {
            subjects,
            catalog: Catalog::default(),
            leases: Leases::new(subjects.clone(), &replica),
            sequence: 0,
        };
        let began = EpochBegan {
            epoch: EpochId::from_parts(1, 1),
            previous_epoch: None,
            namespace: subjects.namespace().clone(),
            datacenter: None,
            fold_version: FOLD_VERSION,
        };
        let data = EventData::Epoch(began);
        let event = Event { id: "1".into(), source: Source::Registry(replica), time: None, data };
        held.fold(&event.subject(subjects), &event.encode(subjects.namespace())?);
        Ok(held)
    }

    fn fold(&mut self, subject: &str, payload: &[u8]) -> bool {
        self.sequence += 1;
        let at = Timestamp::from_ms(1_790_000_000_000);
        let record = Record { sequence: self.sequence, at, subject, payload };
        let folded = self.catalog.fold(self.subjects, &record);
        self.leases.folded(&self.catalog, &folded);
        folded.change.is_some()
    }

    /// Seconds of processor time that folding took; making the events is not counted.
    fn register_all(&mut self, instances: usize) -> Result<f64> {
        let mut seconds = 0.0;
        for from in (0..instances).step_by(1_000) {
            let events: Vec<_> = (from..from + 1_000).map(|number| event(fleet_member(number, 1))).collect();
            let began = thread_seconds()?;
            for (subject, bytes) in &events {
                anyhow::ensure!(self.fold(subject, bytes), "a registration made no change");
            }
            seconds += thread_seconds()? - began;
        }
        Ok(seconds)
    }

    fn json_bytes(&self) -> f64 {
        let instances = self.catalog.services().flat_map(|(_, service)| service.instances());
        instances.map(|instance| serde_json::to_vec(instance).map_or(0, |bytes| bytes.len()) as f64).sum()
    }

    /// Nanoseconds of processor time for folding one change.
    fn changes(&mut self, instances: usize) -> Result<f64> {
        let events: Vec<_> = scattered(instances, CHANGES)
            .enumerate()
            .map(|(index, number)| {
                event(crate::payload::Subject { number: index, ..fleet_member(number, 2 + index as u64) })
            })
            .collect();
        let began = thread_seconds()?;
        for (subject, bytes) in &events {
            self.fold(subject, bytes);
        }
        Ok((thread_seconds()? - began) * 1e9 / CHANGES as f64)
    }

    /// Nanoseconds of processor time for one heartbeat.
    fn heartbeats(&mut self, instances: usize) -> Result<f64> {
        let agents = instances / 10;
        let digests: Vec<Digest> = (0..agents).map(fleet_digest).collect();
        let beat = |number: usize, counter: u64| Heartbeat {
            v: muster_schemas::WIRE_VERSION,
            session: SESSION.parse().expect("a session"),
            counter,
            instances: 10,
            digest: digests[number],
            acked: None,
            conn: None,
        };
        let beats: Vec<(String, Vec<u8>)> = scattered(agents, BEATS)
            .enumerate()
            .map(|(index, number)| {
                let agent: AgentId = agent(number).parse().expect("a name");
                (
                    self.subjects.heartbeat(&agent),
                    serde_json::to_vec(&beat(number, index as u64 + 1)).expect("plain data"),
                )
            })
            .collect();
        let position = self.catalog.position();
        let began = thread_seconds()?;
        let mut taken = 0_usize;
        for (subject, payload) in &beats {
            let heard = self.leases.hear(1_000, Timestamp::from_ms(1), position, subject, payload);
            taken += usize::from(matches!(heard, Heard::Beat(_)));
        }
        assert_eq!(taken, BEATS, "heartbeats were not taken");
        Ok((thread_seconds()? - began) * 1e9 / BEATS as f64)
    }
}

/// Processor time of this thread, in seconds: what one thread does alone costs the same whoever else is on the machine.
fn thread_seconds() -> Result<f64> {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = schedule.split(' ').next().context("an empty schedstat")?.parse()?;
    Ok(nanoseconds * 1e-9)
}

/// Numbers below `below` in an order that no cache foresees, the same in every run.
fn scattered(below: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state).unwrap_or(0) % below
    })
}
