//! Others doing the same work.

pub(crate) mod etcd;
pub(crate) mod kv;
