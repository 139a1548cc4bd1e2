//! Lines of progress: on standard output, or on standard error where standard output belongs to a machine.

use std::fmt::Arguments;
use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// From now on progress goes to standard error.
pub(crate) fn leave_stdout_alone() {
    STDOUT_IS_TAKEN.store(true, Ordering::Relaxed);
}

pub(crate) fn line(text: Arguments<'_>) {
    if STDOUT_IS_TAKEN.load(Ordering::Relaxed) {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}

/// As `println!`, but nothing else on standard output may be spoiled by it.
macro_rules! say {
    ($($argument:tt)*) => { $crate::progress::line(format_args!($($argument)*)) };
}
pub(crate) use say;
