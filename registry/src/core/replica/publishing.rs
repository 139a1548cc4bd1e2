//! What goes out to consumers and other replicas, and what is heard of theirs.

use bytes::Bytes;
use muster_schemas::alarm::{Alarm, AlarmKind};
use muster_schemas::beacon::Beacon;
use muster_schemas::heartbeat::Mark;
use muster_schemas::limits::INTEGER_MAX;
use muster_schemas::pulse::Pulse;
use muster_schemas::{EpochId, Revision, WIRE_VERSION};
use serde::{Deserialize, Serialize};

use super::peers::Heard;
use super::pulses::Moment;
use super::{Phase, REPORT_AGAIN_MS, Replica};
use crate::core::io::{Effect, Effects, Outgoing, OutgoingKind, Severity};

/// The parts of a change by which it is recognised.
#[derive(Deserialize)]
struct ChangeHead {
    epoch: EpochId,
    revision: u64,
}

/// A ULID as text.
const EPOCH_BYTES: usize = 26;

impl ChangeHead {
    /// What begins as every replica of this version writes it is not read to its end: also the own changes come back.
    fn read(payload: &[u8]) -> Option<Self> {
        Self::read_beginning(payload).or_else(|| serde_json::from_slice(payload).ok())
    }

    fn read_beginning(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(b"{\"v\":1,\"epoch\":\"")?;
        let (epoch, rest) = rest.split_at_checked(EPOCH_BYTES)?;
        let rest = rest.strip_prefix(b"\",\"revision\":")?;
        let digits = rest.split(|byte| *byte == b',').next()?;
        let epoch = std::str::from_utf8(epoch).ok()?.parse().ok()?;
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let revision = is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())??;
        Some(Self { epoch, revision })
    }
}

impl Replica {
    /// Sends a message of plain data, unless nothing can be sent.
    pub(super) fn send(&self, kind: OutgoingKind, subject: String, message: &impl Serialize, effects: &mut Effects) {
        // Serialising plain data with string keys into memory cannot fail.
        let payload = Bytes::from(serde_json::to_vec(message).unwrap_or_default());
        self.send_bytes(kind, subject, payload, effects);
    }

    fn send_bytes(&self, kind: OutgoingKind, subject: String, payload: Bytes, effects: &mut Effects) {
        if self.publish_connected {
            effects.push(Effect::Publish(Outgoing { kind, subject, payload }));
        }
    }

    pub(super) fn alarm(&mut self, kind: AlarmKind, message: String, effects: &mut Effects) {
        let kind = kind.as_str();
        *self.counters.alarms.entry(kind).or_default() += 1;
        let alarm = Alarm {
            v: WIRE_VERSION,
            kind: kind.to_owned(),
            replica: self.settings.replica.clone(),
            at: self.minting.wall(),
            message: message.clone(),
        };
        let subject = self.settings.subjects.alarm(kind);
        self.send(OutgoingKind::Alarm, subject, &alarm, effects);
        self.report(Severity::Error, message, effects);
    }

    pub(super) fn rank_anew(&mut self) {
        let timing = &self.settings.timing;
        let own = (self.catalog.epoch(), self.catalog.revision());
        self.peers.tick(self.now_ms, timing, own);
        self.rank = self.peers.rank(self.now_ms, timing);
        self.look_after_divergence();
    }

    pub(super) fn send_mark(&mut self, effects: &mut Effects) {
        // A linger that is over is shown by a mark, and not later than by one of its own.
        let wanted = self.liveness.leases.wants_mark(self.now_ms);
        if self.now_ms < self.next_mark_ms && !wanted {
            return;
        }
        self.send_mark_now(effects);
    }

    pub(super) fn send_mark_now(&mut self, effects: &mut Effects) {
        self.next_mark_ms = self.now_ms + self.settings.timing.mark_ms;
        self.mark_counter += 1;
        let mark = Mark {
            v: WIRE_VERSION,
            replica: self.settings.replica.clone(),
            counter: self.mark_counter,
            sent_ms: self.now_ms,
        };
        let subject = self.settings.subjects.mark(&self.settings.replica);
        self.send(OutgoingKind::Mark, subject, &mark, effects);
    }

    pub(super) fn send_beacon(&mut self, effects: &mut Effects) {
        if self.now_ms < self.next_beacon_ms {
            return;
        }
        self.next_beacon_ms = self.now_ms + self.settings.timing.beacon_ms;
        let beacon = Beacon {
            v: WIRE_VERSION,
            epoch: self.named_epoch(),
            replica: self.settings.replica.clone(),
            started_at: self.settings.started_at,
            state: self.state(),
            revision: self.catalog.revision(),
            digest: self.catalog.digest(),
            fold_versions: self.fold_versions.clone(),
            rebuilt: self.has_rebuilt(),
            servers: self.liveness.leases.servers_heard(self.now_ms),
            left: self.liveness.leases.take_left(),
        };
        let subject = self.settings.subjects.beacon(&self.settings.replica);
        self.send(OutgoingKind::Beacon, subject, &beacon, effects);
    }

    /// Publishes the changes whose turn it is.
    pub(super) fn send_due_changes(&mut self, effects: &mut Effects) {
        if self.phase != Phase::Live || !self.publish_connected || self.yields_to().is_some() {
            self.ring.give_up_old(self.now_ms);
        } else {
            while let Some(publication) = self.ring.next_due(self.now_ms, self.rank, &self.settings.timing) {
                self.counters.changes_published += 1;
                self.counters.changes_hedged += u64::from(self.rank != Some(0));
                self.send_bytes(OutgoingKind::Change, publication.subject, publication.payload, effects);
            }
        }
        self.counters.changes_given_up = self.ring.given_up();
    }

    /// Publishes the pulses whose turn it is; none while the log is suspected to be broken.
    pub(super) fn send_due_pulses(&mut self, effects: &mut Effects) {
        let timing = &self.settings.timing;
        self.pulses.tick(self.now_ms, self.catalog.revision(), timing);
        let Some(moment) = self.moment().filter(|_| self.publish_connected) else {
            return;
        };
        let (continuity, now_ms) = (&self.continuity, self.now_ms);
        // Where no confirmed end is remembered it is older than anybody may rely on.
        let head_age_ms =
            |to| continuity.end_confirmed_through_ms(to).map_or(INTEGER_MAX, |ms| now_ms.saturating_sub(ms));
        for index in self.pulses.due(now_ms, self.rank, timing) {
            for payload in self.pulses.send(now_ms, index, moment, &head_age_ms, timing) {
                self.counters.pulses_published += 1;
                let subject = self.settings.subjects.pulse(index);
                effects.push(Effect::Publish(Outgoing { kind: OutgoingKind::Pulse, subject, payload }));
            }
        }
    }

    /// What this replica can vouch for to consumers at this moment.
    fn moment(&self) -> Option<Moment> {
        let is_right = self.catalog.is_supported() && self.yields_to().is_none();
        if self.phase != Phase::Live || self.continuity.suspicion().is_some() || !is_right {
            return None;
        }
        let unseen = self.ring.first_unseen().map(|revision| revision.sequence() - 1);
        let to = unseen.unwrap_or(self.catalog.revision());
        // What is held back has been in the log since nobody knows when: the pulse speaks of the last moment without it.
        self.continuity.end_confirmed_through_ms(to)?;
        Some(Moment { epoch: self.catalog.epoch()?, to, state: self.catalog.state() })
    }

    pub(super) fn change_heard(&mut self, payload: &[u8]) {
        if payload.is_empty() {
            // A permission check of somebody who starts; the same for pulses and beacons.
            return;
        }
        let Some(change) = ChangeHead::read(payload) else {
            self.counters.messages_refused += 1;
            return;
        };
        let folded = self.catalog.position();
        // Another log's change is no progress in this one; a later log's will be folded in time.
        if Some(change.epoch) >= self.catalog.epoch() {
            let known = folded.filter(|_| self.phase == Phase::Live);
            let revision = Revision(change.epoch, change.revision);
            self.counters.changes_seen += u64::from(self.ring.saw(self.now_ms, revision, known));
        }
    }

    pub(super) fn pulse_heard(&mut self, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let Ok(pulse) = serde_json::from_slice::<Pulse>(payload) else {
            self.counters.messages_refused += 1;
            return;
        };
        if Some(pulse.epoch) == self.catalog.epoch() {
            self.pulses.heard(self.now_ms, &pulse, &self.settings.timing);
            // Its sender has sent, or seen, every change up to there.
            self.counters.changes_seen += self.ring.saw_through(Revision(pulse.epoch, pulse.to));
        }
    }

    pub(super) fn beacon_heard(&mut self, payload: &[u8], effects: &mut Effects) {
        if payload.is_empty() {
            return;
        }
        let Ok(beacon) = serde_json::from_slice::<Beacon>(payload) else {
            self.counters.messages_refused += 1;
            return;
        };
        let heard = self.peers.heard(self.now_ms, beacon.clone());
        match heard {
            Heard::Own => {}
            Heard::Peer => {
                self.counters.beacons_heard += 1;
                self.liveness.leases.heard_elsewhere(self.now_ms, &beacon.servers);
                self.liveness.leases.left_by_other(self.now_ms, &beacon.left);
                self.learn_position(beacon.epoch, beacon.revision);
                self.compare_digest(&beacon, effects);
                self.rank = self.peers.rank(self.now_ms, &self.settings.timing);
            }
            Heard::TooMany => self.counters.messages_refused += 1,
            Heard::Impostor => self.complain(
                AlarmKind::DuplicateIds,
                format!(
                    "another process, started at {}, calls itself replica {} too: give each its own id",
                    beacon.started_at, beacon.replica
                ),
                effects,
            ),
        }
    }

    /// Somebody has seen this position of this log: it must be in the stream.
    pub(super) fn learn_position(&mut self, epoch: Option<EpochId>, sequence: u64) {
        let Some(epoch) = epoch else { return };
        if Some(epoch) == self.catalog.epoch() {
            self.continuity.claim(sequence);
        } else {
            self.known.named(self.now_ms, epoch);
        }
    }

    /// Raises an alarm that would repeat with every beacon, now and then.
    pub(super) fn complain(&mut self, kind: AlarmKind, text: String, effects: &mut Effects) {
        let again_ms = self.complained_ms.get(&kind).map_or(0, |ms| ms + REPORT_AGAIN_MS);
        if self.now_ms >= again_ms {
            self.complained_ms.insert(kind, self.now_ms);
            self.alarm(kind, text, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_change_says_the_same_as_the_whole() {
        let epoch = EpochId::from_parts(1, 2);
        let whole = format!(r#"{{"v":1,"epoch":"{epoch}","revision":572,"previous_revision":0}}"#);
        let read = ChangeHead::read_beginning(whole.as_bytes()).unwrap();
        assert_eq!((read.epoch, read.revision), (epoch, 572));
        let others = [
            format!(r#"{{"epoch":"{epoch}","revision":572}}"#),
            format!(r#"{{ "v":1,"epoch":"{epoch}","revision":572}}"#),
            format!(r#"{{"v":1,"epoch":"{epoch}","other":1,"revision":572}}"#),
        ];
        for other in others {
            assert!(ChangeHead::read_beginning(other.as_bytes()).is_none(), "{other}");
            assert_eq!(ChangeHead::read(other.as_bytes()).unwrap().revision, 572);
        }
        for bad in ["", "{}", r#"{"v":1,"epoch":"#, &whole.replace("572", "-1"), &whole.replace("572", "5a")] {
            assert!(ChangeHead::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
