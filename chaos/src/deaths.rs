//! How long it took until a consumer was told of each death.

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::truth::Truth;

#[derive(Debug)]
struct Death {
    kind: Kind,
    at_ms: u64,
}

/// One death of which a consumer was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Detected {
    pub(crate) kind: Kind,
    pub(crate) took_ms: u64,
    /// Whether a broker or a registry was harmed meanwhile, or everybody slowed.
    pub(crate) disturbed: bool,
}

/// Deaths that nobody was told of yet, and those that somebody was.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    open: BTreeMap<String, Death>,
    pub(crate) detected: Vec<Detected>,
}

impl Deaths {
    /// An instance died now.
    pub(crate) fn died(&mut self, key: &str, kind: Kind, now_ms: u64) {
        self.open.insert(key.to_owned(), Death { kind, at_ms: now_ms });
    }

    /// It lives again; if nobody was told of its death, nobody was meant to be.
    pub(crate) fn lives(&mut self, key: &str) {
        self.open.remove(key);
    }

    /// A consumer was told.
    pub(crate) fn told(&mut self, key: &str, at_ms: u64, truth: &Truth) {
        let Some(death) = self.open.get(key).filter(|death| death.at_ms <= at_ms) else {
            return;
        };
        let disturbed = truth.was_disturbed(death.at_ms, at_ms);
        self.detected.push(Detected { kind: death.kind, took_ms: at_ms - death.at_ms, disturbed });
        self.open.remove(key);
    }
}
