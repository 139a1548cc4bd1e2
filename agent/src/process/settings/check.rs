//! `--check 'NAME=WHAT [interval=…] [timeout=…] [failures=…] [successes=…]'`.

use std::str::FromStr;

use muster_runtime::settings::Period;

use super::super::check::{Probe, Target};

/// One check as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSetting {
    /// The port's name, or, where a host and port are given, any name.
    pub name: String,
    /// What is looked at.
    pub what: What,
    /// From one run to the next.
    pub interval: Option<Period>,
    /// How long one run may take.
    pub timeout: Option<Period>,
    /// Failures in a row until critical.
    pub failures: Option<u32>,
    /// Successes in a row until no longer critical.
    pub successes: Option<u32>,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The port of that name is not checked.
    Nothing,
    /// The port of that name.
    OfPort(Probe),
    /// Another port, maybe elsewhere.
    At(Probe, Target),
}

/// A text that is no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The form as a whole.
    #[error(
        "write NAME=/PATH for an HTTP check of the port NAME, NAME=tcp to see whether it is open, NAME=none for no check, or \
         NAME=http://HOST:PORT/PATH or NAME=tcp://HOST:PORT for another port"
    )]
    Form,
    /// HTTPS.
    #[error(
        "HTTPS is not checked: write NAME=tcp to see whether the port is open, or give a plain HTTP port for checks"
    )]
    Https,
    /// One of the words behind it.
    #[error(
        "{word:?} is no option of a check: write interval=2s, timeout=1s, failures=3 or successes=2, with blanks between"
    )]
    Option {
        /// The word.
        word: String,
    },
}

impl FromStr for CheckSetting {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        let mut words = text.split_whitespace();
        let (name, what) = words.next().and_then(|first| first.split_once('=')).ok_or(CheckError::Form)?;
        if name.is_empty() {
            return Err(CheckError::Form);
        }
        let mut setting = Self {
            name: name.to_owned(),
            what: what.parse()?,
            interval: None,
            timeout: None,
            failures: None,
            successes: None,
        };
        for word in words {
            setting.option(word).ok_or_else(|| CheckError::Option { word: word.to_owned() })?;
        }
        Ok(setting)
    }
}

impl CheckSetting {
    fn option(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        let period = || value.parse::<Period>().ok().filter(|period| period.as_ms() > 0);
        let count = || value.parse::<u32>().ok().filter(|count| *count > 0);
        match key {
            "interval" => self.interval = Some(period()?),
            "timeout" => self.timeout = Some(period()?),
            "failures" => self.failures = Some(count()?),
            "successes" => self.successes = Some(count()?),
            _ => return None,
        }
        Some(())
    }
}

impl FromStr for What {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        if text.starts_with('/') {
            return Ok(Self::OfPort(http(text)?));
        }
        match text.split_once("://") {
            None if text == "tcp" => Ok(Self::OfPort(Probe::Tcp)),
            None if text == "none" => Ok(Self::Nothing),
            Some(("tcp", place)) => Ok(Self::At(Probe::Tcp, target(place)?)),
            Some(("http", place)) => {
                let slash = place.find('/').unwrap_or(place.len());
                let (place, path) = place.split_at(slash);
                let path = if path.is_empty() { "/" } else { path };
                Ok(Self::At(http(path)?, target(place)?))
            }
            Some(("https", _)) => Err(CheckError::Https),
            _ => Err(CheckError::Form),
        }
    }
}

fn http(path: &str) -> Result<Probe, CheckError> {
    let is_path = path.parse::<hyper::Uri>().is_ok_and(|uri| uri.authority().is_none());
    if !is_path {
        return Err(CheckError::Form);
    }
    Ok(Probe::Http { path: path.to_owned() })
}

/// `host:port`, with an IPv6 address in brackets.
fn target(place: &str) -> Result<Target, CheckError> {
    let (host, port) = place.rsplit_once(':').ok_or(CheckError::Form)?;
    let port: u16 = port.parse().map_err(|_| CheckError::Form)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if port == 0 || !muster_schemas::instance::is_host(host) {
        return Err(CheckError::Form);
    }
    Ok(Target { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> What {
        text.parse::<CheckSetting>().unwrap().what
    }

    fn get(path: &str) -> Probe {
        Probe::Http { path: path.to_owned() }
    }

    #[test]
    fn a_check_names_a_port_or_a_place() {
        assert_eq!(what("http=/healthz?a=b"), What::OfPort(get("/healthz?a=b")));
        assert_eq!(what("http=tcp"), What::OfPort(Probe::Tcp));
        assert_eq!(what("http=none"), What::Nothing);
        let at = |host: &str, port| Target { host: host.to_owned(), port };
        assert_eq!(what("db=tcp://10.0.0.1:5432"), What::At(Probe::Tcp, at("10.0.0.1", 5432)));
        assert_eq!(what("a=http://[::1]:81/x"), What::At(get("/x"), at("::1", 81)));
        assert_eq!(what("a=http://localhost:81"), What::At(get("/"), at("localhost", 81)));
    }

    #[test]
    fn options_follow_after_blanks() {
        let check: CheckSetting = "http=/ interval=500ms timeout=2s failures=5 successes=1".parse().unwrap();
        let periods = (check.interval.map(Period::as_ms), check.timeout.map(Period::as_ms));
        assert_eq!((periods, check.failures, check.successes), ((Some(500), Some(2_000)), Some(5), Some(1)));
    }

    #[test]
    fn what_is_no_check_is_refused_with_the_way_out() {
        for text in
            ["", "http", "=/x", "http=x", "http=tcp://x", "a=http://:80/", "a=tcp://h:0", "a=ftp://h:1", "a=/x\u{1}"]
        {
            assert_eq!(text.parse::<CheckSetting>(), Err(CheckError::Form), "{text}");
        }
        assert_eq!("a=https://h:1/".parse::<CheckSetting>(), Err(CheckError::Https));
        for word in ["interval=2", "interval=0s", "failures=0", "failures", "colour=red"] {
            let expected = CheckError::Option { word: word.to_owned() };
            assert_eq!(format!("a=tcp {word}").parse::<CheckSetting>(), Err(expected));
        }
    }
}
