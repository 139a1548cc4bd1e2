//! What registries propose: expire, lapse, recovered, setting. Each names what it rests on, and counts only if that is so.

use muster_schemas::entry::IntentKind;
use muster_schemas::event::{Expiry, ExpiryCause, Lapse, Recovered, SettingChanged};
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Cause, EpochId, EventKind};

use super::Catalog;
use super::outcome::{Folded, Reason};
use super::service::Held;
use super::write::{Doing, Ending};

/// The setting that raises the fold version.
pub const FOLD_VERSION_SETTING: &str = "fold_version";

impl Catalog {
    pub(super) fn fold_expire(&mut self, doing: Doing<'_>, expiry: &Expiry) -> Folded {
        if !self.is_in_force(expiry.epoch) {
            return Folded::ignored(Reason::WrongEpoch);
        }
        let vouching = &expiry.vouching;
        let Some(slot) = self.slot(&vouching.service, &vouching.instance) else {
            return Folded::ignored(Reason::UnknownInstance);
        };
        let Held::Live(instance) = &slot.held else {
            return Folded::ignored(Reason::Superseded);
        };
        if slot.last_sequence != expiry.observed_sequence || instance.vouching().incarnation != vouching.incarnation {
            return Folded::ignored(Reason::Superseded);
        }
        if instance.is_static() {
            return Folded::ignored(Reason::StaticInstance);
        }
        let mut evidence = expiry.evidence.clone();
        evidence.reason.get_or_insert_with(|| word(expiry.cause).to_owned());
        let ended = instance.vouching().clone();
        let ending = Ending { vouching: ended.clone(), cause: Cause::Expired, evidence: Some(evidence) };
        let mut folded = self.bury(doing, ending);
        folded.notices.push(self.expired_notice(&ended, word(expiry.cause)));
        folded
    }

    pub(super) fn fold_lapse(&mut self, doing: Doing<'_>, lapse: &Lapse) -> Folded {
        if !self.is_in_force(lapse.epoch) {
            return Folded::ignored(Reason::WrongEpoch);
        }
        let key_of = |kind| (lapse.service.clone(), lapse.instance.clone(), kind);
        let in_force = [IntentKind::Maintenance, IntentKind::Evict]
            .into_iter()
            .filter_map(|kind| self.intents.get(&key_of(kind)))
            .find(|intent| intent.sequence == lapse.ends_sequence);
        let Some(intent) = in_force else {
            return Folded::ignored(Reason::Superseded);
        };
        if intent.until.is_none_or(|until| until > self.stream_time) {
            return Folded::ignored(Reason::NotDue);
        }
        let key = key_of(intent.intent);
        self.take_intent(&key);
        self.apply_maintenance(doing, &lapse.service, &lapse.instance, Cause::Lapsed)
    }

    pub(super) fn fold_recovered(&mut self, recovered: &Recovered) -> Folded {
        if !self.is_in_force(recovered.epoch) {
            return Folded::ignored(Reason::WrongEpoch);
        }
        match &mut self.epoch {
            Some(epoch) if epoch.state == CatalogState::Recovering => {
                epoch.state = CatalogState::Ready;
                Folded::accepted(EventKind::Recovered)
            }
            _ => Folded::ignored(Reason::Superseded),
        }
    }

    /// A newer fold comes into force; the way back is closed, since an older one may not understand what is held by then.
    pub(super) fn fold_setting(&mut self, setting: &SettingChanged) -> Folded {
        let version = setting.value.as_u64().and_then(|value| u32::try_from(value).ok());
        let (FOLD_VERSION_SETTING, Some(version), Some(epoch)) = (setting.name.as_str(), version, &mut self.epoch)
        else {
            return Folded::ignored(Reason::UnknownSetting);
        };
        match version.cmp(&epoch.fold_version) {
            std::cmp::Ordering::Less => Folded::ignored(Reason::Superseded),
            std::cmp::Ordering::Equal => Folded::no_op(EventKind::Setting),
            std::cmp::Ordering::Greater => {
                epoch.fold_version = version;
                Folded::accepted(EventKind::Setting)
            }
        }
    }

    pub(super) fn is_in_force(&self, epoch: EpochId) -> bool {
        self.epoch() == Some(epoch)
    }
}

/// The word of an expiry's cause, as on the wire.
fn word(cause: ExpiryCause) -> &'static str {
    match cause {
        ExpiryCause::Silent => "silent",
        ExpiryCause::Disconnected => "disconnected",
        ExpiryCause::Disowned => "disowned",
        ExpiryCause::Unreachable => "unreachable",
    }
}
