//! What is played: the history of a seed, whole or with parts left out.

use std::collections::BTreeSet;
use std::fmt;

use super::random::Random;

/// Steps of a history: each is an operation, a fault, or time.
pub(crate) const STEPS: u64 = 300;
/// Agents that it begins with.
pub(crate) const AGENTS: u64 = 5;

/// Something that a history can do without. What is left draws the same chances as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Agent(u64),
    Step(u64),
}

/// The history of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    parts: BTreeSet<Part>,
}

impl Plan {
    pub(crate) fn whole(seed: u64) -> Self {
        Self { seed, parts: (0..AGENTS).map(Part::Agent).chain((0..STEPS).map(Part::Step)).collect() }
    }

    pub(crate) fn with(&self, parts: impl IntoIterator<Item = Part>) -> Self {
        Self { seed: self.seed, parts: parts.into_iter().collect() }
    }

    pub(crate) fn parts(&self) -> impl DoubleEndedIterator<Item = Part> + '_ {
        self.parts.iter().copied()
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The chances of a part: its own, so that they do not depend on what else there is.
    pub(crate) fn random(&self, part: Part) -> Random {
        let number = match part {
            Part::Agent(number) => number + STEPS,
            Part::Step(number) => number,
        };
        let mut random = Random::new(self.seed ^ (number + 1).rotate_right(16));
        Random::new(random.next())
    }

    /// Reads what `Display` shows.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn parse(seed: u64, parts: &str) -> Result<Self, String> {
        let part = |text: &str| {
            let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number of a part"));
            match text.split_at_checked(1) {
                Some(("a", rest)) => number(rest).map(Part::Agent),
                Some(("s", rest)) => number(rest).map(Part::Step),
                _ => Err(format!("{text:?} is no part: there are agents, a0, and steps, s0")),
            }
        };
        let parts: Result<_, String> = parts.split(',').filter(|text| !text.is_empty()).map(part).collect();
        Ok(Self { seed, parts: parts? })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            out.write_str(if index == 0 { "" } else { "," })?;
            match part {
                Part::Agent(number) => write!(out, "a{number}")?,
                Part::Step(number) => write!(out, "s{number}")?,
            }
        }
        Ok(())
    }
}

#[test]
fn what_a_plan_shows_is_read_as_the_same_plan() {
    let plan = Plan::whole(7).with([Part::Step(12), Part::Agent(3)]);
    assert_eq!(plan.to_string(), "a3,s12");
    assert_eq!(Plan::parse(7, "a3,s12"), Ok(plan));
    assert!(Plan::parse(7, "a3,x").is_err());
}
