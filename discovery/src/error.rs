//! What can go wrong, with the way out.

use std::fmt;

/// What went wrong. Match this; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A service name, namespace or prefix is against a rule. Nothing was sent.
    InvalidName,
    /// A setting is against a rule. Nothing was sent.
    InvalidSetting,
    /// The broker cannot be reached.
    Unreachable,
    /// The broker refused the credentials.
    CredentialsRefused,
    /// The broker refused a subject that is needed.
    PermissionDenied,
    /// The connection was closed for good.
    Closed,
    /// A registration or deregistration was refused, or is not confirmed.
    Registration,
}

/// An error of this library.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    may_have_changed: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), may_have_changed: false, source: None }
    }

    /// Something may have changed all the same.
    #[cfg(feature = "registrar")]
    pub(crate) fn although_something_may_have_changed(mut self) -> Self {
        self.may_have_changed = true;
        self
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether something may have changed although the call failed. Never for `Discovery`, which only reads.
    #[must_use]
    pub fn may_have_changed(&self) -> bool {
        self.may_have_changed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<muster_schemas::name::NameError> for Error {
    fn from(error: muster_schemas::name::NameError) -> Self {
        Self::new(ErrorKind::InvalidName, error.to_string()).because(error)
    }
}
