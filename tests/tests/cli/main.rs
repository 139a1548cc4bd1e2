//! The `muster` command as its users see it: what it prints for people and for programs, and how it ends.

mod dev;
mod doctor;
mod endings;
mod operating;
mod reading;
mod register;
mod support;
mod watch;
mod why;
