//! A run from its beginning to its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use muster_schemas::{Change, Namespace, Prefix, Subjects};
use muster_tests::Cluster;
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::broker_faults::Brokers;
use crate::faults::{Scene, inject};
use crate::judge::{Judge, Promise};
use crate::kind::Kind;
use crate::links::Links;
use crate::pace::Pace;
use crate::plan::Round;
use crate::report::Report;
use crate::stage::Stage;
use crate::time::{Clock, Starved};
use crate::{checkpoint, load, log};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the schedule follows from.
    pub seed: u64,
    /// How long faults are injected.
    pub minutes: u64,
    /// Another nats-server than the pinned one.
    pub nats_server: Option<PathBuf>,
    /// Where logs go if something is wrong.
    pub logs: PathBuf,
}

/// From one event of the load to the next.
const LOAD_PERIOD: Duration = Duration::from_millis(150);
/// How often consumers' lines are read.
const LINES_PERIOD: Duration = Duration::from_millis(10);
/// How often it is looked whether programs still run, and whether something can be judged.
const LOOK: Duration = Duration::from_millis(500);
/// How long the log's end is waited for, and read again.
const LAST_READING: Duration = Duration::from_secs(120);
/// From so many minutes on, a run must have had enough of every kind.
const WHOLE_MINUTES: u64 = 15;
/// A run that is short of faults goes on for this part of its time at most.
const MORE_TIME: u64 = 4;
/// How many looks the last views may take to be judged.
const LAST_LOOKS: u32 = 120;
/// A registry that finds no broker when it starts says so with this code, and is started again, as an init system would.
const NO_BROKER: i32 = 69;

/// Performs a run. To be called in a `LocalSet`.
pub async fn run(options: &Options) -> Report {
    let clock = Clock::start();
    let subjects = Subjects::new(Prefix::default(), Namespace::default());
    let mut builder = Cluster::builder().advisories().settings("no_fast_producer_stall: true");
    if let Some(binary) = &options.nats_server {
        builder = builder.binary(binary.clone());
    }
    println!(
        "three brokers, three registries, twelve agents, six consumers; seed {}, {} minutes",
        options.seed, options.minutes
    );
    let mut brokers = Brokers::new(builder.start().await);
    let stage = Rc::new(Stage::set(&brokers.cluster));
    let links = Rc::new(Links::connect(&stage.urls).await);
    let judge = Rc::new(RefCell::new(Judge::new(subjects.clone(), clock, Starved::watch(clock))));
    for supervised in &stage.agents {
        judge.borrow_mut().truth.lives(&supervised.key, supervised.agent.home);
    }
    let scene = Scene { stage, judge };
    let tasks = watchers(&scene, &links, &subjects);
    checkpoint::pass(&scene, 0).await;
    brokers.copy_disks(&scene).await;
    let end = Instant::now() + Duration::from_secs(60 * options.minutes);
    let mut number = 0;
    let latest = end + Duration::from_secs(60 * options.minutes / MORE_TIME);
    while Instant::now() < end || (Instant::now() < latest && !shortfalls(&scene.judge.borrow(), options).is_empty()) {
        let round = Round::of(options.seed, number);
        perform(&scene, &mut brokers, &round).await;
        number += 1;
        checkpoint::pass(&scene, number).await;
    }
    tasks.note_ended(&scene);
    tasks.load.abort();
    tasks.lines.abort();
    last_look(&scene, &links, &subjects).await;
    tasks.others.iter().for_each(JoinHandle::abort);
    let mut judge = scene.judge.borrow();
    let mut not_run = BTreeMap::new();
    if let Some(why) = scene.stage.clocks.missing() {
        not_run.insert(Kind::ClockStepped, why.to_owned());
    }
    for (kind, wanted) in shortfalls(&judge, options) {
        if !not_run.contains_key(&kind) {
            let count = judge.faults.get(&kind).copied().unwrap_or(0);
            let what = format!("{}: only {count}, and not {wanted}", kind.as_str());
            drop(judge);
            scene.judge.borrow_mut().violated(Promise::NotPerformed, what);
            judge = scene.judge.borrow();
        }
    }
    let report = Report::of(&judge, options.seed, options.minutes, not_run);
    if !report.is_clean() {
        write_logs(&scene, &brokers, &options.logs);
    }
    report
}

/// What there was too little of for a run of so many minutes. A shorter one may be short of something on a busy machine.
fn shortfalls(judge: &Judge, options: &Options) -> Vec<(Kind, u64)> {
    if options.minutes < WHOLE_MINUTES {
        return Vec::new();
    }
    let kinds = Kind::OF_PROCESSES.into_iter().chain(Kind::OF_BROKERS);
    let wanted = kinds.map(|kind| (kind, kind.wanted(options.minutes)));
    wanted.filter(|(kind, wanted)| judge.faults.get(kind).copied().unwrap_or(0) < *wanted).collect()
}

/// All faults of a round.
async fn perform(scene: &Scene, brokers: &mut Brokers, round: &Round) {
    let mut running = JoinSet::new();
    let began = Instant::now();
    let processes = async {
        for fault in &round.processes {
            tokio::time::sleep_until(began + Duration::from_millis(fault.after_ms)).await;
            running.spawn_local(inject(scene.clone(), *fault));
        }
    };
    tokio::join!(processes, brokers.harm(scene, &round.brokers));
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            scene.judge.borrow_mut().violated(Promise::NotPerformed, format!("a fault could not be done: {error}"));
        }
    }
}

struct Tasks {
    load: JoinHandle<()>,
    lines: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Tasks {
    /// Each goes on until it is ended here: one that has not would leave nothing to judge.
    fn note_ended(&self, scene: &Scene) {
        let ended = [&self.load, &self.lines].into_iter().chain(&self.others).filter(|task| task.is_finished()).count();
        if ended > 0 {
            let what = format!("{ended} of the observer's own tasks ended before the run");
            scene.judge.borrow_mut().violated(Promise::NotPerformed, what);
        }
    }
}

/// Everything that goes on all the time.
fn watchers(scene: &Scene, links: &Rc<Links>, subjects: &Subjects) -> Tasks {
    let mut others = vec![
        spawn_local(read_log(scene.clone(), Rc::clone(links), subjects.stream_name())),
        spawn_local(look_after(scene.clone())),
    ];
    for client in links.clients() {
        others.push(spawn_local(see_changes(scene.clone(), client.clone(), subjects.all_changes())));
        others.push(spawn_local(see_beacons(scene.clone(), client.clone(), subjects.all_beacons())));
        others.push(spawn_local(see_alarms(scene.clone(), client.clone(), subjects.all_alarms())));
    }
    Tasks {
        load: spawn_local(append_load(scene.clone(), Rc::clone(links), subjects.clone())),
        lines: spawn_local(read_lines(scene.clone())),
        others,
    }
}

async fn read_lines(scene: Scene) {
    loop {
        let mut lines: Vec<_> = Vec::new();
        for watcher in scene.stage.watchers() {
            lines.extend(watcher.new_output().into_iter().map(|line| (line.at, &watcher.name, line.text)));
        }
        lines.sort_by_key(|(at, ..)| *at);
        for (at, name, text) in lines {
            let mut judge = scene.judge.borrow_mut();
            let at_ms = judge.clock.at(at);
            judge.heard(name, at_ms, &text);
        }
        sleep(LINES_PERIOD).await;
    }
}

async fn read_log(scene: Scene, links: Rc<Links>, stream: String) {
    loop {
        let next = scene.judge.borrow().log.position() + 1;
        match log::fetch(&links, &stream, next).await {
            Ok(Some(event)) => scene.judge.borrow_mut().log.fold(event),
            Ok(None) => sleep(Duration::from_millis(50)).await,
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn append_load(scene: Scene, links: Rc<Links>, subjects: Subjects) {
    let mut began_ms = scene.now_ms();
    for number in 0.. {
        let (subject, payload) = load::event(&subjects, number);
        let stored = load::append(&links, &subject, &payload).await;
        let now_ms = scene.now_ms();
        {
            let mut judge = scene.judge.borrow_mut();
            match stored {
                Ok(sequence) => {
                    judge.acknowledged(sequence, load::hash(&payload), now_ms.saturating_sub(began_ms), now_ms);
                    began_ms = now_ms + LOAD_PERIOD.as_millis() as u64;
                }
                // The next one is sent in its place: the wait goes on.
                Err(_) => judge.ledger.unacknowledged += 1,
            }
        }
        sleep(LOAD_PERIOD).await;
    }
}

async fn see_changes(scene: Scene, client: async_nats::Client, subject: String) {
    let Ok(mut changes) = client.subscribe(subject).await else { return };
    while let Some(message) = changes.next().await {
        if let Ok(change) = serde_json::from_slice::<Change>(&message.payload) {
            let now_ms = scene.now_ms();
            scene.judge.borrow_mut().published(change.revision, now_ms);
        }
    }
}

async fn see_beacons(scene: Scene, client: async_nats::Client, subject: String) {
    let Ok(mut beacons) = client.subscribe(subject).await else { return };
    while let Some(message) = beacons.next().await {
        if let Ok(beacon) = serde_json::from_slice(&message.payload) {
            let now_ms = scene.now_ms();
            scene.judge.borrow_mut().takeovers.heard(&beacon, now_ms);
        }
    }
}

async fn see_alarms(scene: Scene, client: async_nats::Client, subject: String) {
    let Ok(mut alarms) = client.subscribe(subject).await else { return };
    while let Some(message) = alarms.next().await {
        let kind = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
        scene.judge.borrow_mut().alarmed(&kind, &message.payload);
    }
}

/// Judges what can be judged, and notices programs that ended although nobody told them to.
async fn look_after(scene: Scene) {
    let mut pace = Pace::default();
    let mut looked_ms = scene.now_ms();
    loop {
        sleep(LOOK).await;
        let now_ms = scene.now_ms();
        for key in pace.starved(&scene.stage) {
            scene.judge.borrow_mut().truth.agent_starved(&key, looked_ms, now_ms);
        }
        looked_ms = now_ms;
        scene.judge.borrow_mut().judge();
        for member in scene.stage.members().chain(&scene.stage.observers) {
            let Ok(_busy) = member.busy.try_lock() else { continue };
            let Some(status) = member.ended() else { continue };
            if status.code() != Some(NO_BROKER) {
                let what = format!("{} ended by itself: {status}", member.name);
                scene.judge.borrow_mut().violated(Promise::EndedByThemselves, what);
            }
            member.restart();
            scene.judge.borrow_mut().consumer_restarted(&member.name);
            if let Some(supervised) = scene.stage.agents.iter().find(|supervised| supervised.agent.name == member.name)
            {
                let now_ms = scene.now_ms();
                scene.judge.borrow_mut().truth.agent_started(&supervised.key, now_ms);
            }
        }
    }
}

/// Reads the log to its end, and once more from its beginning: nothing in it may have changed.
async fn last_look(scene: &Scene, links: &Links, subjects: &Subjects) {
    let stream = subjects.stream_name();
    let wanted = scene.judge.borrow().ledger.all().last().map_or(0, |(sequence, _)| sequence);
    let read = async {
        while scene.judge.borrow().log.position() < wanted {
            sleep(LOOK).await;
        }
        // What agents and registries appended last; what the views name of it is in the log already.
        let mut looks = 0;
        while looks < 4 || scene.judge.borrow().views.unjudged() > 0 && looks < LAST_LOOKS {
            sleep(LOOK).await;
            scene.judge.borrow_mut().judge();
            looks += 1;
        }
        let last = scene.judge.borrow().log.position();
        let mut sequence = 1;
        while sequence <= last {
            let Ok(found) = log::fetch(links, &stream, sequence).await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let was = scene.judge.borrow().log.hash_at(sequence);
            if found.map(|event| event.hash()) != was {
                let what = format!("the event at revision {sequence} is another one than it was");
                scene.judge.borrow_mut().violated(Promise::LostAcknowledged, what);
            }
            sequence += 1;
        }
    };
    if timeout(LAST_READING, read).await.is_err() {
        let what = format!("the log could not be read to revision {wanted} within {LAST_READING:?}");
        scene.judge.borrow_mut().violated(Promise::NotPerformed, what);
    }
    let mut judge = scene.judge.borrow_mut();
    for sequence in judge.lost() {
        judge.violated(Promise::LostAcknowledged, format!("what was acknowledged at revision {sequence} is not there"));
    }
    let (unexplained, unjudged, epochs) = (judge.log.unexplained, judge.views.unjudged(), judge.log.epochs.len());
    if unexplained > 0 {
        judge.violated(Promise::Unexplained, format!("{unexplained} removals"));
    }
    if unjudged > 0 {
        judge
            .violated(Promise::SilentDivergence, format!("{unjudged} views name revisions that the log does not hold"));
    }
    if epochs > 1 {
        judge.violated(Promise::NewLogs, format!("{epochs} epochs, although the log was never lost"));
    }
}

fn write_logs(scene: &Scene, brokers: &Brokers, directory: &Path) {
    let written = scene.stage.write_logs(directory).and_then(|()| brokers.write_logs(directory));
    match written {
        Ok(()) => println!("what everybody logged is in {}", directory.display()),
        Err(error) => println!("the logs could not be written to {}: {error}", directory.display()),
    }
}
