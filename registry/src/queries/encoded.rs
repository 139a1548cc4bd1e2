//! Services as they were last written, so that asking often costs writing once per change.

use std::collections::HashMap;

use bytes::Bytes;
use muster_schemas::ServiceName;
use muster_schemas::query::Request;
use muster_schemas::subject::Query;

use super::encoding::Chunk;
use crate::core::catalog::{Catalog, Claims, Service};

/// What may be kept in all; beyond it everything is dropped, and written again when it is asked for.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whole services without filter and limit, each as in an answer.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    services: HashMap<ServiceName, (Service, Bytes)>,
    bytes: usize,
    /// What they were written with: where there are conflicts, an answer depends on other services too.
    claims: Claims,
}

impl Encoded {
    /// A service as it stands in an answer. `None` if it is not known or does not fit into one answer.
    pub(super) fn service(&mut self, catalog: &Catalog, service: &ServiceName, bytes_max: usize) -> Option<Bytes> {
        let claims = catalog.claims();
        if !claims.is_same(&self.claims) {
            self.services.clear();
            self.bytes = 0;
        }
        self.claims = claims;
        let held = catalog.service(service)?;
        if let Some((written, bytes)) = self.services.get(service)
            && written.is_same(held)
        {
            return Some(bytes.clone()).filter(|bytes| bytes.len() <= bytes_max);
        }
        let (query, request) = (Query::Service(service.clone()), Request::default());
        let (bytes, None) = Chunk::write(catalog, &query, &request, None, bytes_max).ok()? else {
            return None;
        };
        let bytes = Bytes::from(bytes);
        self.keep(service, held, &bytes);
        Some(bytes)
    }

    fn keep(&mut self, service: &ServiceName, held: &Service, bytes: &Bytes) {
        if self.bytes + bytes.len() > BYTES_MAX {
            self.services.clear();
            self.bytes = 0;
        }
        self.bytes += bytes.len();
        let before = self.services.insert(service.clone(), (held.clone(), bytes.clone()));
        self.bytes -= before.map_or(0, |(_, bytes)| bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::tests::catalog;
    use super::*;

    #[test]
    fn beyond_64_mib_all_that_was_written_is_dropped_and_written_again_when_it_is_asked_for() {
        let (catalog, orders) = (catalog(&[("orders", 1)]), ServiceName::new("orders").unwrap());
        let mut encoded = Encoded::default();
        let answer = encoded.service(&catalog, &orders, usize::MAX).unwrap();
        let service = catalog.service(&orders).unwrap();
        // All share one piece of memory; they are counted as if they did not.
        let mebibyte = Bytes::from(vec![b' '; 1024 * 1024]);
        let keep = |encoded: &mut Encoded, number: usize| {
            let name = ServiceName::new(&format!("s{number}")).unwrap();
            encoded.keep(&name, service, &mebibyte);
            let held: usize = encoded.services.values().map(|(_, bytes)| bytes.len()).sum();
            assert_eq!(encoded.bytes, held);
            assert!(held <= BYTES_MAX, "{held}");
        };
        (0..63).for_each(|number| keep(&mut encoded, number));
        assert_eq!(encoded.services.len(), 64, "the first is among them");
        keep(&mut encoded, 63);
        assert_eq!(encoded.services.len(), 1);
        (64..200).for_each(|number| keep(&mut encoded, number));
        assert!(!encoded.services.contains_key(&orders));
        assert_eq!(encoded.service(&catalog, &orders, usize::MAX), Some(answer));
        assert!(encoded.services.contains_key(&orders));
    }
}
