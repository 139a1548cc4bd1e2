//! Of a history that breaks something, the parts without which it does not: a story short enough to be read.

use super::history::{self, Broken};
use super::plan::{Part, Plan};
use super::world::Trace;

/// Histories tried at most, so that nobody waits for long.
const TRIES_MAX: u32 = 3_000;

/// The shortest plan found that breaks the same invariant, and how it does.
pub(crate) fn shrink(broken: Broken) -> Broken {
    let mut shrinking = Shrinking { best: broken, tries: 0 };
    shrinking.cut_end();
    let mut size = shrinking.best.plan.parts().count() / 2;
    while size > 0 && shrinking.tries < TRIES_MAX {
        // A part that was needed at first may not be once others are gone: the smallest size until nothing more goes.
        if !shrinking.leave_out(size) || size > 1 {
            size /= 2;
        }
    }
    shrinking.best
}

struct Shrinking {
    best: Broken,
    tries: u32,
}

impl Shrinking {
    /// What came after the failure had no part in it.
    fn cut_end(&mut self) {
        let last = self.best.last_step;
        let parts = self.best.plan.parts().filter(|part| !matches!(part, Part::Step(step) if *step > last));
        let plan = self.best.plan.with(parts.collect::<Vec<_>>());
        self.best.plan = plan;
    }

    /// Leaves out runs of so many parts wherever it breaks without them; tells whether any was.
    fn leave_out(&mut self, size: usize) -> bool {
        let mut any = false;
        // From the end: what happens late disturbs least of the rest.
        let mut end = self.best.plan.parts().count();
        while end > 0 && self.tries < TRIES_MAX {
            let begin = end.saturating_sub(size);
            let kept = self.best.plan.parts().enumerate().filter(|(index, _)| !(begin..end).contains(index));
            let plan = self.best.plan.with(kept.map(|(_, part)| part).collect::<Vec<_>>());
            any |= self.try_plan(&plan);
            end = begin.min(self.best.plan.parts().count());
        }
        any
    }

    fn try_plan(&mut self, plan: &Plan) -> bool {
        self.tries += 1;
        match history::try_run(plan, Trace::Off) {
            Err(broken) if broken.invariant() == self.best.invariant() => {
                self.best = broken;
                self.cut_end();
                true
            }
            _ => false,
        }
    }
}
