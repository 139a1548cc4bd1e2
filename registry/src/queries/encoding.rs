//! Writes answers: the head anew for every reply, services one by one, none larger than a message may be.

use std::sync::Arc;

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{ErrorCode, Filter, QueryError, Request};
use muster_schemas::subject::Query;
use muster_schemas::{Digest, EpochId, Instance, InstanceId, ServiceName, WIRE_VERSION};
use serde::Serialize;

use super::cursors::Position;
use crate::core::catalog::{Catalog, Service};

/// What stands before the services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Head<'a> {
    pub(super) v: u32,
    pub(super) epoch: EpochId,
    pub(super) revision: u64,
    pub(super) state: CatalogState,
    pub(super) head_age_ms: u64,
    pub(super) next: Option<&'a str>,
}

impl Head<'_> {
    pub(super) fn new(epoch: EpochId, revision: u64, state: CatalogState, head_age_ms: u64) -> Self {
        Self { v: WIRE_VERSION, epoch, revision, state, head_age_ms, next: None }
    }
}

/// Puts a head before services.
pub(super) fn reply(head: &Head<'_>, services: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(services.len() + HEAD_BYTES);
    write(&mut bytes, head);
    // The head's closing brace makes room for one more field.
    bytes.pop();
    bytes.extend_from_slice(b",\"services\":[");
    bytes.extend_from_slice(services);
    bytes.extend_from_slice(b"]}");
    bytes
}

/// More than a head, its brackets and the name of a next chunk ever take.
pub(super) const HEAD_BYTES: usize = 1_024;

#[derive(Serialize)]
struct ServiceHead<'a> {
    service: &'a ServiceName,
    revision: u64,
    digest: Digest,
    total: u32,
    routable: u32,
}

/// Services of one answer, until one does not fit.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    catalog: &'a Catalog,
    filter: Option<&'a Filter>,
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Instances (of `query.services`: services) that may still come.
    items_left: usize,
}

/// A chunk ended because the next item did not fit.
struct Full;

impl<'a> Chunk<'a> {
    /// The services that a query is about, from a position on; with where the next chunk begins.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`]: an item alone does not fit into a message.
    pub(super) fn write(
        catalog: &'a Catalog,
        query: &Query,
        request: &'a Request,
        from: Option<&Position>,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Option<Position>), QueryError> {
        let limit = request.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut chunk = Self {
            catalog,
            filter: request.filter.as_ref(),
            bytes: Vec::new(),
            bytes_max,
            items_left: limit.unwrap_or(usize::MAX),
        };
        let next = match query {
            Query::Services => chunk.services(from, false),
            Query::Snapshot => chunk.services(from, true),
            Query::Service(service) => chunk.one_service(service, from),
            Query::Instance(service, instance) => {
                let held = catalog.service(service).cloned().unwrap_or_default();
                let found = held.held(instance).and_then(|held| held.live()).cloned();
                chunk.service(service, &held, None, found.iter()).err()
            }
            Query::Status | Query::History(..) | Query::Next(..) => None,
        };
        match next {
            Some(next) if chunk.bytes.is_empty() => Err(too_large(&next, bytes_max)),
            next => Ok((chunk.bytes, next)),
        }
    }

    fn one_service(&mut self, service: &ServiceName, from: Option<&Position>) -> Option<Position> {
        let unknown = Service::default();
        let held = self.catalog.service(service).unwrap_or(&unknown);
        let after = from.and_then(|position| position.after.as_ref());
        let written = match after {
            Some(after) => self.service(service, held, Some(after), held.instances_after(after)),
            None => self.service(service, held, None, held.instances()),
        };
        written.err()
    }

    /// All services, with or without their instances. Of those that are gone, only a snapshot tells the revision.
    fn services(&mut self, from: Option<&Position>, instances: bool) -> Option<Position> {
        let catalog = self.catalog;
        let rest: Box<dyn Iterator<Item = (&ServiceName, &Service)>> = match from {
            None => Box::new(catalog.services()),
            Some(position) => {
                if instances && let Some(next) = self.one_service(&position.service, from) {
                    return Some(next);
                }
                if !instances
                    && let Some(held) = catalog.service(&position.service)
                    && let Some(next) = self.service_line(&position.service, held)
                {
                    return Some(next);
                }
                Box::new(catalog.services_after(&position.service))
            }
        };
        for (service, held) in rest {
            let next = if instances {
                self.service(service, held, None, held.instances()).err()
            } else {
                self.service_line(service, held)
            };
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// A service without its instances; where to go on if it does not fit.
    fn service_line(&mut self, service: &ServiceName, held: &Service) -> Option<Position> {
        if held.total() == 0 {
            return None;
        }
        let start = Position { service: service.clone(), after: None };
        if self.items_left == 0 || self.service(service, held, None, std::iter::empty()).is_err() {
            return Some(start);
        }
        self.items_left -= 1;
        None
    }

    /// A service with its instances behind `after`; where to go on if not all fit.
    fn service<'i>(
        &mut self,
        service: &ServiceName,
        held: &Service,
        after: Option<&InstanceId>,
        instances: impl Iterator<Item = &'i Arc<Instance>>,
    ) -> Result<(), Position> {
        let mut next = Position { service: service.clone(), after: after.cloned() };
        let start = self.bytes.len();
        let tail = self.tail(service);
        if self.open(service, held, tail.len()).is_err() {
            self.bytes.truncate(start);
            return Err(next);
        }
        let (mut first, mut full) = (true, false);
        for instance in instances {
            if self.filter.is_some_and(|filter| !filter.matches(instance)) {
                next.after = Some(instance.vouching().instance.clone());
                continue;
            }
            if self.instance(instance, first, tail.len()).is_err() {
                full = true;
                break;
            }
            first = false;
            next.after = Some(instance.vouching().instance.clone());
        }
        if full && first {
            // Not even one: the service begins in the next chunk, or goes on there.
            self.bytes.truncate(start);
            return Err(next);
        }
        self.bytes.extend_from_slice(&tail);
        if full { Err(next) } else { Ok(()) }
    }

    fn open(&mut self, service: &ServiceName, held: &Service, tail: usize) -> Result<(), Full> {
        if !self.bytes.is_empty() {
            self.bytes.push(b',');
        }
        let head = ServiceHead {
            service,
            revision: held.revision(),
            digest: held.digest(),
            total: held.total(),
            routable: held.routable(),
        };
        write(&mut self.bytes, &head);
        self.bytes.pop();
        self.bytes.extend_from_slice(b",\"instances\":[");
        self.fits(tail)
    }

    fn instance(&mut self, instance: &Instance, first: bool, tail: usize) -> Result<(), Full> {
        if self.items_left == 0 {
            return Err(Full);
        }
        let before = self.bytes.len();
        if !first {
            self.bytes.push(b',');
        }
        write(&mut self.bytes, instance);
        if self.fits(tail).is_err() {
            self.bytes.truncate(before);
            return Err(Full);
        }
        self.items_left -= 1;
        Ok(())
    }

    fn fits(&self, tail: usize) -> Result<(), Full> {
        if self.bytes.len() + tail <= self.bytes_max { Ok(()) } else { Err(Full) }
    }

    /// What stands behind a service's instances. Conflicts are left out where they would leave no room for instances:
    /// every change that makes one tells of it, too.
    fn tail(&self, service: &ServiceName) -> Vec<u8> {
        let conflicts = self.catalog.conflicts_of(service);
        let mut tail = b"]".to_vec();
        if !conflicts.is_empty() {
            tail.extend_from_slice(b",\"conflicts\":");
            write(&mut tail, &conflicts);
        }
        if tail.len() > self.bytes_max / 4 {
            tail.truncate(1);
        }
        tail.push(b'}');
        tail
    }
}

fn too_large(at: &Position, bytes_max: usize) -> QueryError {
    let what = match &at.after {
        Some(after) => format!("what follows {}/{after}", at.service),
        None => at.service.to_string(),
    };
    let message = format!("one item of the answer is larger than the {bytes_max} bytes that a message may have");
    QueryError::new(ErrorCode::TooLarge, &message, "service", what, "raise `max_payload` of the broker")
}

fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    // Writing plain data with text for keys into memory cannot fail.
    let _ = serde_json::to_writer(bytes, value);
}

#[cfg(test)]
pub(crate) mod tests;
