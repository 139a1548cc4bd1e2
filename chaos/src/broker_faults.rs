//! What is done to brokers, their disks and the routes between them: one thing at a time, since three copies survive the
//! loss of one, and the next only after everything was copied again.

use std::path::Path;
use std::time::Duration;

use muster_tests::Cluster;
use muster_tests::cluster::BROKERS;
use muster_tests::nats_server::StoreCopy;
use tokio::time::{Instant, sleep};

use crate::faults::Scene;
use crate::judge::Promise;
use crate::kind::Kind;
use crate::plan::Fault;

/// How long the brokers may take until they have caught up.
const HEALTHY_PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);

/// The brokers, with older copies of their disks.
pub(crate) struct Brokers {
    pub(crate) cluster: Cluster,
    copies: [Option<StoreCopy>; BROKERS],
}

impl Brokers {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, copies: [None, None, None] }
    }

    /// Does one thing after the other.
    pub(crate) async fn harm(&mut self, scene: &Scene, faults: &[Fault]) {
        for fault in faults {
            sleep(Duration::from_millis(fault.after_ms)).await;
            self.inject(scene, fault).await;
        }
    }

    async fn inject(&mut self, scene: &Scene, fault: &Fault) {
        let broker = fault.target % BROKERS;
        let lasts = Duration::from_millis(fault.lasts_ms);
        let now_ms = scene.now_ms();
        scene.judge.borrow_mut().truth.broker_harmed(broker, now_ms);
        scene.judge.borrow_mut().injected(fault.kind, &Cluster::name(broker), fault.lasts_ms);
        let cluster = &mut self.cluster;
        match fault.kind {
            Kind::BrokerFrozen => {
                cluster.broker(broker).freeze();
                sleep(lasts).await;
                cluster.broker(broker).thaw();
            }
            Kind::RouteCut => {
                cluster.cut_off(broker);
                sleep(lasts).await;
                cluster.heal();
            }
            Kind::BlackHole => {
                cluster.black_hole(broker);
                sleep(lasts).await;
                cluster.heal();
            }
            kind => {
                if kind == Kind::BrokerRestarted {
                    cluster.broker_mut(broker).stop().await;
                } else {
                    cluster.broker_mut(broker).kill();
                }
                sleep(lasts).await;
                match (kind, &self.copies[broker]) {
                    (Kind::DiskWiped, _) => cluster.broker_mut(broker).wipe_store(),
                    (Kind::DiskOlder, Some(copy)) => cluster.broker_mut(broker).restore_store(copy),
                    (Kind::DiskOlder, None) => {}
                    _ => self.copies[broker] = Some(cluster.broker(broker).copy_store()),
                }
                cluster.broker_mut(broker).restart().await;
            }
        }
        self.until_healthy(scene).await;
        let now_ms = scene.now_ms();
        scene.judge.borrow_mut().truth.broker_well(broker, now_ms);
    }

    /// Copies of all disks, for the first [`Kind::DiskOlder`] of each: every broker is stopped and started in turn.
    pub(crate) async fn copy_disks(&mut self, scene: &Scene) {
        for broker in 0..BROKERS {
            let now_ms = scene.now_ms();
            scene.judge.borrow_mut().truth.broker_harmed(broker, now_ms);
            self.cluster.broker_mut(broker).stop().await;
            self.copies[broker] = Some(self.cluster.broker(broker).copy_store());
            self.cluster.broker_mut(broker).restart().await;
            self.until_healthy(scene).await;
            let now_ms = scene.now_ms();
            scene.judge.borrow_mut().truth.broker_well(broker, now_ms);
        }
    }

    /// Writes what the brokers have logged since they were started last into files.
    pub(crate) fn write_logs(&self, directory: &Path) -> std::io::Result<()> {
        (0..BROKERS).try_for_each(|broker| {
            let name = Cluster::name(broker);
            let lines = self.cluster.broker(broker).process().lines().into_iter().map(|line| line.text);
            std::fs::write(directory.join(format!("{name}.log")), lines.collect::<Vec<_>>().join("\n"))
        })
    }

    async fn until_healthy(&self, scene: &Scene) {
        let began = Instant::now();
        loop {
            let Err(reason) = self.cluster.all_healthy().await else { return };
            if began.elapsed() > HEALTHY_PATIENCE {
                let what = format!("the brokers are not healthy after {HEALTHY_PATIENCE:?}: {reason}");
                scene.judge.borrow_mut().violated(Promise::NotPerformed, what);
                return;
            }
            sleep(LOOK).await;
        }
    }
}
