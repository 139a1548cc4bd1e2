//! Settings: one `clap` struct per program, filled from flags, over `MUSTER_*` variables, over a TOML file, over defaults.
//!
//! The struct is the only declaration. A field `heartbeat_interval` with `#[arg(long)]` is the flag
//! `--heartbeat-interval`, the variable `MUSTER_HEARTBEAT_INTERVAL` and the key `heartbeat_interval` of the file, and
//! one row of the generated reference. Only arguments of the root command are layered so; a sub-command's own arguments
//! are of the command line alone, and every root flag is accepted behind a sub-command too.
//!
//! * An empty variable counts as not set. Lists are separated by commas in variables, and arrays in the file.
//! * A root flag without a value is also accepted as `--flag=false`, so that a flag can undo what the file says.
//! * Arguments of one `clap` group exclude each other; a choice in a higher layer replaces the one in a lower layer.
//! * All problems of all layers, and of a sub-command's arguments, are reported at once; only values that would be used are checked.
//! * Unknown keys of the file are errors; unknown `MUSTER_*` variables are warnings, for other programs have theirs.

mod arguments;
mod check;
mod environment;
mod file;
mod layers;
mod nearest;
mod period;
mod problem;
mod program;
mod reference;
mod setting;
mod subcommand;

pub use check::{Check, Entry, Table};
pub use period::{Period, PeriodError};
pub use problem::{Problem, Problems, Source};
pub(crate) use program::config_home;
pub use program::{Inputs, LoadError, Loaded, Program};
pub use reference::{CommandDoc, Reference, SettingDoc, TableDoc};

/// What a program's settings struct adds to `clap::Parser`.
pub trait Settings: clap::Parser {
    /// Checks that need more than one setting, or the world outside (files that must exist). Called once every single
    /// value is fine; reports through [`Check::refuse`]. May also fill fields that are no flags (`#[arg(skip)]`), for
    /// instance with [`Check::entries`].
    fn check(&mut self, check: &mut Check) {
        let _ = check;
    }

    /// The arrays of tables (`[[service]]`) that the file may hold besides plain keys.
    #[must_use]
    fn tables() -> Vec<Table> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
