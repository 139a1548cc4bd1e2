//! Files and contexts: what they give, and what is said when they are wrong.

use std::path::Path;

use clap::Parser;

use super::*;
use crate::exit::{Exit, ExitReason};

#[derive(Parser)]
struct Only {
    #[command(flatten)]
    broker: BrokerSettings,
}

/// A configuration directory of the `nats` command line with one context, which is selected.
fn contexts(json: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("context")).unwrap();
    std::fs::write(directory.path().join("context/east.json"), json).unwrap();
    std::fs::write(directory.path().join("context.txt"), "east\n").unwrap();
    directory
}

fn resolve(arguments: &[&str], contexts: Option<&Path>) -> (Access, Vec<String>) {
    let settings = Only::parse_from(std::iter::once("x").chain(arguments.iter().copied())).broker;
    let mut check = Check::default();
    let access = settings.resolve(contexts, &mut check);
    (access, check.into_problems().0.iter().map(ToString::to_string).collect())
}

fn sound(arguments: &[&str], contexts: Option<&Path>) -> Access {
    let (access, problems) = resolve(arguments, contexts);
    assert_eq!(problems, Vec::<String>::new());
    access
}

#[test]
fn the_heading_of_the_broker_does_not_go_on_below_it() {
    #[derive(Parser)]
    struct More {
        #[command(flatten)]
        only: BrokerSettings,
        #[arg(long)]
        own: Option<String>,
    }
    let command = <More as clap::CommandFactory>::command();
    let heading =
        |id: &str| command.get_arguments().find(|argument| argument.get_id() == id).unwrap().get_help_heading();
    assert_eq!((heading("server"), heading("prefix"), heading("own")), (Some("Broker"), Some("Broker"), None));
    let More { only, own } = More::parse_from(["x"]);
    assert_eq!((only.user, own), (None, None));
}

#[test]
fn without_anything_the_local_server_and_the_usual_inbox_are_meant() {
    let access = sound(&[], None);
    assert_eq!((access.servers().as_str(), access.inbox_prefix()), ("nats://127.0.0.1:4222", "_INBOX"));
    assert_eq!(access.credentials, Credentials::None);
}

#[test]
fn the_selected_context_holds_only_while_no_server_is_given() {
    let directory = contexts(
        r#"{"url": "nats://east:4222, nats://west", "user": "me", "password": "secret", "inbox_prefix": "_IN.me"}"#,
    );
    let access = sound(&[], Some(directory.path()));
    assert_eq!((access.servers().as_str(), access.context()), ("nats://east:4222,nats://west:4222", Some("east")));
    assert_eq!(access.credentials, Credentials::User("me".into(), Secret("secret".into())));
    assert_eq!(access.inbox_prefix(), "_IN.me");
    let access = sound(&["--server", "nats://here"], Some(directory.path()));
    assert_eq!((access.context(), &access.credentials), (None, &Credentials::None));
}

#[test]
fn a_named_context_gives_the_rest_beside_a_given_server() {
    let directory = contexts(r#"{"url": "nats://east", "token": "t", "unknown": 1}"#);
    let access = sound(&["--server", "here:1", "--context", "east"], Some(directory.path()));
    assert_eq!(access.servers(), "nats://here:1");
    assert_eq!(access.credentials, Credentials::Token(Secret("t".into())));
}

#[test]
fn our_own_credentials_win_over_those_of_the_context() {
    let directory = contexts(r#"{"url": "nats://east", "token": "theirs"}"#);
    let file = directory.path().join("token");
    std::fs::write(&file, "ours\n").unwrap();
    let access = sound(&["--token-file", file.to_str().unwrap()], Some(directory.path()));
    assert_eq!(access.credentials, Credentials::Token(Secret("ours".into())));
}

#[test]
fn user_and_password_of_a_url_are_used_and_never_shown() {
    let access = sound(&["--server", "nats://me:secret@a:1"], None);
    assert_eq!(access.credentials, Credentials::User("me".into(), Secret("secret".into())));
    assert!(!format!("{access:?} {}", access.servers()).contains("secret"), "{access:?}");
    assert_eq!(sound(&["--server", "nats://tok@a"], None).credentials, Credentials::Token(Secret("tok".into())));
}

#[test]
fn every_file_that_is_missing_is_reported_at_once() {
    let arguments = ["--creds", "/no/c", "--tls-ca", "/no/ca", "--tls-cert", "/no/cert", "--inbox-prefix", "a.*"];
    let (_, problems) = resolve(&arguments, None);
    for part in
        ["--creds: /no/c cannot be read", "--tls-ca: ", "--tls-cert: /no/cert", "--tls-key as well", "--inbox-prefix: "]
    {
        assert!(problems.iter().any(|problem| problem.contains(part)), "`{part}` is missing in {problems:#?}");
    }
}

#[test]
fn a_user_without_password_and_files_that_are_something_else_are_refused() {
    let directory = contexts("{}");
    let file = directory.path().join("other");
    std::fs::write(&file, "\n").unwrap();
    let path = file.to_str().unwrap();
    let reported = |arguments: &[&str], part: &str| {
        let (_, problems) = resolve(arguments, None);
        assert!(problems.iter().any(|problem| problem.contains(part)), "`{part}` is missing in {problems:#?}");
    };
    reported(&["--user", "me"], "give --password-file as well");
    reported(&["--password-file", path], "give --user as well");
    reported(&["--user", "me", "--password-file", path], "is empty");
    reported(&["--nkey", path], "holds no nkey seed");
    reported(&["--creds", path], "is no credentials file");
}

#[test]
fn a_context_that_is_not_there_or_not_usable_says_how_to_go_on() {
    let directory = contexts(r#"{"nsc": "nsc://op/acc/user"}"#);
    let (_, problems) = resolve(&["--context", "west"], Some(directory.path()));
    assert!(
        problems[0].contains("west.json cannot be read") && problems[0].contains("nats context ls"),
        "{problems:?}"
    );
    let (_, problems) = resolve(&[], Some(directory.path()));
    assert!(problems[0].contains("of the selected context") && problems[0].contains("`nsc`"), "{problems:?}");
    let (_, problems) = resolve(&["--context", "../east"], Some(directory.path()));
    assert!(problems[0].contains("has no path in it"), "{problems:?}");
}

#[test]
fn a_url_that_is_none_says_what_to_write() {
    for wrong in ["http://a", "ws://a", "nats://", "a b"] {
        assert!(wrong.parse::<ServerUrl>().is_err_and(|reason| reason.contains("nats://HOST:PORT")), "{wrong}");
    }
    assert_eq!("[::1]:4223".parse::<ServerUrl>().unwrap().to_string(), "nats://[::1]:4223");
}

#[test]
fn settings_that_were_never_checked_still_report_what_is_wrong() {
    let settings = Only::parse_from(["x", "--server", "a", "--creds", "/no/c"]).broker;
    assert_eq!(settings.access().unwrap_err().exit(), Exit::Configuration);
}
