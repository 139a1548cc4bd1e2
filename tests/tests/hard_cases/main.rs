//! Bad input and hard cases, from outside: what anybody can do to the programs, and the one outcome that each has.

mod broker;
mod children;
mod clocks;
mod documented;
mod events;
mod messages;
mod names;
mod outages;
mod output;
mod queries;
mod support;
mod two_of_one_name;
