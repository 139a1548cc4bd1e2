//! What is shown to the broker as proof of identity; never shown to anybody else.

use std::fmt;

use async_nats::ConnectOptions;

/// A text that does not appear in debug output.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One proof of identity.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) enum Credentials {
    #[default]
    None,
    /// The text of a `.creds` file: a JWT and a seed.
    Jwt(Secret),
    /// The seed of an nkey.
    Nkey(Secret),
    User(String, Secret),
    Token(Secret),
}

impl Credentials {
    /// The kind in words, for messages.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::None => "none were given".to_owned(),
            Self::Jwt(_) => "a credentials file".to_owned(),
            Self::Nkey(_) => "an nkey".to_owned(),
            Self::User(user, _) => format!("user `{user}` and password"),
            Self::Token(_) => "a token".to_owned(),
        }
    }

    /// The options with this proof.
    ///
    /// # Errors
    /// The credentials file is not one.
    pub(super) fn apply(&self, options: ConnectOptions) -> std::io::Result<ConnectOptions> {
        match self {
            Self::None => Ok(options),
            Self::Jwt(file) => options.credentials(&file.0),
            Self::Nkey(seed) => Ok(options.nkey(seed.0.clone())),
            Self::User(user, password) => Ok(options.user_and_password(user.clone(), password.0.clone())),
            Self::Token(token) => Ok(options.token(token.0.clone())),
        }
    }
}

/// The seed in an nkey file: the line that looks like one, so that decorated files work as well.
pub(super) fn seed_of(text: &str) -> Option<String> {
    let is_seed =
        |line: &&str| line.len() == 58 && line.starts_with('S') && line.bytes().all(|b| b.is_ascii_alphanumeric());
    text.lines().map(str::trim).find(is_seed).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_debug_output() {
        let text = format!("{:?}", Credentials::User("me".into(), Secret("hunter2".into())));
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_seed_is_found_bare_and_decorated() {
        let seed = "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY";
        assert_eq!(seed_of(&format!("{seed}\n")).as_deref(), Some(seed));
        assert_eq!(seed_of(&format!("-----BEGIN USER NKEY SEED-----\n{seed}\n------END\n")).as_deref(), Some(seed));
        assert_eq!(seed_of("hello"), None);
    }
}
