//! `--port NAME=[SCHEME:]PORT`.

use std::fmt;
use std::str::FromStr;

/// A name like one of these is its own scheme; any other means plain TCP.
const SCHEMES: [&str; 8] = ["http", "https", "grpc", "grpcs", "tcp", "udp", "ws", "wss"];

/// A named port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Unique within the service.
    pub name: String,
    /// What is spoken there.
    pub scheme: String,
    /// From 1.
    pub number: u16,
}

impl Port {
    /// Somebody can connect to it, so that its being open can be checked.
    #[must_use]
    pub fn has_connections(&self) -> bool {
        self.scheme != "udp"
    }
}

/// A text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write NAME=PORT, as in http=8080, or NAME=SCHEME:PORT, as in admin=http:8081; ports are from 1 to 65535")]
pub struct PortError;

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (name, rest) = text.split_once('=').ok_or(PortError)?;
        let (scheme, number) = match rest.rsplit_once(':') {
            Some((scheme, number)) => (scheme, number),
            None if SCHEMES.contains(&name) => (name, rest),
            None => ("tcp", rest),
        };
        let number: u16 = number.parse().map_err(|_| PortError)?;
        let is_word = |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control());
        if number == 0 || !is_word(name) || !is_word(scheme) {
            return Err(PortError);
        }
        Ok(Self { name: name.to_owned(), scheme: scheme.to_owned(), number })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}={}:{}", self.name, self.scheme, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_and_its_scheme_follows_from_the_name_unless_given() {
        for (text, full) in [("http=8080", "http=http:8080"), ("admin=81", "admin=tcp:81"), ("a=grpc:9", "a=grpc:9")] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["8080", "http", "http=", "=80", "http=0", "http=65536", "http=:80", "a b=80", "http=-1"] {
            assert_eq!(text.parse::<Port>(), Err(PortError), "{text}");
        }
    }
}
