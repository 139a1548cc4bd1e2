//! Models of the rules that everything rests on, searched by `stateright` to the last state at a small size.
//!
//! A simulation tries many long histories; a model tries *all* short ones. What decides in Muster is the registry's core,
//! so that is what decides here: the catalog's fold, the ring of changes, the ranks. What is around it (the broker, the
//! network, agents, leases, the shell) is written down as rules, and each says which code it mirrors.
//!
//! Every property has been seen to fail: beside each model stands a test that breaks one rule and expects the search to
//! find out. `cargo xtask mutants` does the same to the core.
//!
//! Reading order: `log` writes the events; `expiry` lets registries expire what may come back; `replacement` loses logs;
//! `publication` lets several replicas publish one log's changes.

#[cfg(test)]
mod log;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod replacement;
#[cfg(test)]
mod publication;
