//! What a user sees of the layers: which value wins, and what is said when one is wrong.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use super::*;
use crate::exit::{Exit, ExitReason};

/// Folds the log.
#[derive(Debug, Parser)]
#[command(name = "muster-example")]
struct Example {
    /// Servers of the broker.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    server: Vec<String>,
    /// How many.
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    count: u32,
    /// How often.
    #[arg(long, default_value = "2s", value_name = "PERIOD")]
    heartbeat_interval: Period,
    /// Whether to wait.
    #[arg(long)]
    require_registration: bool,
    /// A credentials file.
    #[arg(long, group = "authentication")]
    creds: Option<PathBuf>,
    /// A token file.
    #[arg(long, group = "authentication")]
    token_file: Option<PathBuf>,
    /// A user.
    #[arg(long)]
    user: Option<String>,
    /// How it is written.
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
    #[command(subcommand)]
    command: Option<Sub>,
    #[arg(skip)]
    services: Vec<Entry<Service>>,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Runs it.
    Run {
        /// By name.
        #[arg(long)]
        dry: bool,
    },
}

/// One service.
#[derive(Clone, Debug, clap::Args)]
struct Service {
    /// Its name.
    #[arg(long)]
    name: String,
    /// Its ports.
    #[arg(long)]
    port: Vec<u16>,
    /// Whether it lives by itself.
    #[arg(long)]
    standalone: bool,
    /// What runs it.
    #[arg(last = true)]
    command: Vec<String>,
}

impl Settings for Example {
    fn check(&mut self, check: &mut Check) {
        self.services = check.entries("service");
        if self.user.as_deref() == Some("root") {
            check.refuse("user", "root is nobody here; name another");
        }
    }

    fn tables() -> Vec<Table> {
        vec![Table::of::<Service>("service")]
    }
}

/// A directory with a configuration file, kept as long as it is needed.
struct Case {
    directory: tempfile::TempDir,
    inputs: Inputs,
}

fn case(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> Case {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("example.toml");
    std::fs::write(&path, file).unwrap();
    let inputs = Inputs {
        arguments: std::iter::once("muster-example").chain(arguments.iter().copied()).map(OsString::from).collect(),
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        search_path: vec![path],
    };
    Case { directory, inputs }
}

impl Case {
    fn load(&self) -> Loaded<Example> {
        Program::new("example").load(self.inputs.clone()).unwrap()
    }

    /// The complaints, with the directory shortened to nothing.
    fn complaints(&self) -> (Exit, Vec<String>) {
        match Program::new("example").load::<Example>(self.inputs.clone()) {
            Err(LoadError::Problems(problems)) => {
                let directory = format!("{}/", self.directory.path().display());
                let lines = problems.0.iter().map(|problem| problem.to_string().replace(&directory, ""));
                (problems.exit(), lines.collect())
            }
            other => panic!("expected problems, got {other:?}"),
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = "count = 10\nlog_format = \"json\"\nheartbeat_interval = '5s'\n";
    let case = case(&["--count", "30"], &[("MUSTER_COUNT", "20"), ("MUSTER_LOG_FORMAT", "text")], file);
    let settings = case.load().settings;
    assert_eq!((settings.count, settings.log_format.as_str()), (30, "text"));
    assert_eq!(settings.heartbeat_interval, Period::from_secs(5));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(case(&[], &[("MUSTER_COUNT", "")], "count = 10").load().settings.count, 10);
}

#[test]
fn a_list_is_separated_by_commas_in_a_variable_and_an_array_in_the_file() {
    let expected = ["nats://a:4222", "nats://b:4222"];
    assert_eq!(case(&[], &[("NATS_URL", "nats://a:4222, nats://b:4222")], "").load().settings.server, expected);
    assert_eq!(case(&[], &[], "server = ['nats://a:4222', 'nats://b:4222']").load().settings.server, expected);
    assert_eq!(case(&["--server", "nats://a:4222,nats://b:4222"], &[], "").load().settings.server, expected);
}

#[test]
fn our_own_variable_wins_over_the_one_of_the_nats_tools() {
    let case = case(&[], &[("NATS_URL", "nats://theirs"), ("MUSTER_SERVER", "nats://ours")], "");
    assert_eq!(case.load().settings.server, ["nats://ours"]);
}

#[test]
fn a_switch_can_be_set_in_every_layer_and_undone_by_a_flag() {
    assert!(case(&[], &[("MUSTER_REQUIRE_REGISTRATION", "yes")], "").load().settings.require_registration);
    assert!(case(&[], &[], "require_registration = true").load().settings.require_registration);
    assert!(case(&["--require-registration"], &[], "").load().settings.require_registration);
    let undone = case(&["--require-registration=false"], &[], "require_registration = true");
    assert!(!undone.load().settings.require_registration);
}

#[test]
fn a_root_flag_is_accepted_behind_a_subcommand() {
    let settings = case(&["run", "--count", "7", "--dry"], &[], "").load().settings;
    assert_eq!(settings.count, 7);
    assert!(matches!(settings.command, Some(Sub::Run { dry: true })));
}

#[test]
fn every_problem_of_every_layer_is_reported_at_once() {
    let case = case(
        &["--sevrer", "nats://a", "--count", "many"],
        &[("MUSTER_HEARTBEAT_INTERVAL", "10")],
        "log_format = 'xml'\n\nnamspace = 'a'\n",
    );
    let (exit, lines) = case.complaints();
    assert_eq!(exit, Exit::Usage);
    let expected = [
        "unexpected argument '--sevrer' found; tip: a similar argument exists: '--server'",
        "--count = `many`: invalid digit found in string",
        "MUSTER_HEARTBEAT_INTERVAL = `10`: write a whole number and a unit (ms, s, m, h, d), for instance 500ms, 2s or \
         5m (--heartbeat-interval: How often)",
        "example.toml:1: log_format = `xml`: not one of text, json (--log-format: How it is written)",
        "example.toml:3: namspace: no such setting",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn problems_of_environment_and_file_alone_are_configuration_errors() {
    assert_eq!(case(&[], &[("MUSTER_COUNT", "x")], "").complaints().0, Exit::Configuration);
    assert_eq!(case(&[], &[], "count = 'x'").complaints().0, Exit::Configuration);
}

#[test]
fn an_unknown_key_suggests_the_nearest_name() {
    let (_, lines) = case(&[], &[], "require-registration = true\ncuont = 1\n").complaints();
    let expected = [
        "example.toml:1: require-registration: no such setting; did you mean `require_registration`?",
        "example.toml:2: cuont: no such setting; did you mean `count`?",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_unknown_variable_is_a_warning_and_those_of_an_orchestrator_are_not() {
    let variables = [("MUSTER_CUONT", "1"), ("MUSTER_PORT", "tcp://10.0.0.1:80"), ("MUSTER_SERVICE_HOST", "10.0.0.1")];
    let warnings = case(&[], &variables, "").load().warnings;
    assert_eq!(warnings, ["MUSTER_CUONT is set, but is no setting of this program; did you mean `MUSTER_COUNT`?"]);
}

#[test]
fn every_error_of_syntax_in_the_file_is_reported_with_its_line() {
    let (exit, lines) = case(&[], &[], "count = \n\nuser = 'a\n").complaints();
    assert_eq!(exit, Exit::Configuration);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("example.toml:1: not valid TOML: "), "{lines:?}");
    assert!(lines[1].starts_with("example.toml:3: not valid TOML: "), "{lines:?}");
}

#[test]
fn a_file_larger_than_anybody_writes_is_refused_unread() {
    let (exit, lines) = case(&[], &[], &format!("# {}\ncount = 4\n", "x".repeat(1024 * 1024))).complaints();
    assert_eq!(exit, Exit::Configuration);
    assert_eq!(lines, ["example.toml:1: has 1048589 bytes; a configuration file has at most 1048576"]);
}

#[test]
fn of_more_wrong_flags_than_anybody_reads_about_the_first_are_told() {
    let flags: Vec<String> = (0..30).map(|number| format!("--wrong-{number}")).collect();
    let (exit, lines) = case(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &[], "").complaints();
    assert_eq!((exit, lines.len()), (Exit::Usage, 20));
    assert!(lines[0].contains("--wrong-0") && lines[19].contains("--wrong-19"), "{lines:?}");
}

#[test]
fn a_named_file_must_exist() {
    let (exit, lines) = case(&["--config", "/nowhere/x.toml"], &[], "").complaints();
    assert_eq!(exit, Exit::Usage);
    assert_eq!(lines, ["--config = `/nowhere/x.toml`: there is no such file; name one that exists, or leave it out"]);
    let by_variable = case(&[], &[("MUSTER_CONFIG", "/nowhere/x.toml")], "").complaints();
    assert_eq!(by_variable.0, Exit::Configuration);
}

#[test]
fn a_wrong_kind_of_value_in_the_file_says_what_to_write() {
    let (_, lines) = case(&[], &[], "count = [1, 2]\n[user]\nname = 'a'\n").complaints();
    let expected = [
        "example.toml:1: count: takes one value, not an array; remove the brackets",
        "example.toml:2: user: takes a value, not a table; write `user = …`",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn of_settings_that_exclude_each_other_the_higher_layer_wins() {
    let settings = case(&["--token-file", "t"], &[("MUSTER_CREDS", "c")], "").load().settings;
    assert_eq!((settings.creds, settings.token_file), (None, Some("t".into())));
}

#[test]
fn settings_that_exclude_each_other_are_refused_in_one_layer() {
    let (_, lines) = case(&[], &[], "creds = 'c'\ntoken_file = 't'\n").complaints();
    assert_eq!(lines, ["example.toml:2: token_file = `t`: excludes `creds`, which is set too; keep one of them"]);
    let (exit, lines) = case(&["--creds", "c", "--token-file", "t"], &[], "").complaints();
    assert_eq!(exit, Exit::Usage);
    assert!(lines[0].contains("cannot be used with"), "{lines:?}");
    let (_, lines) = case(&["run", "--creds", "c", "--token-file", "t"], &[], "").complaints();
    assert!(lines[0].contains("cannot be used with"), "{lines:?}");
}

#[test]
fn a_programs_own_check_names_the_source() {
    let (exit, lines) = case(&[], &[("MUSTER_USER", "root")], "").complaints();
    assert_eq!(
        (exit, lines),
        (Exit::Configuration, vec!["MUSTER_USER = `root`: root is nobody here; name another".into()])
    );
}

#[test]
fn a_password_in_a_url_is_masked_in_complaints() {
    let problem = Problem {
        setting: "NATS_URL".into(),
        source: Source::Environment("NATS_URL".into()),
        value: Some("nats://me:secret@a:4222,nats://b".into()),
        reason: "no".into(),
    };
    assert_eq!(problem.to_string(), "NATS_URL = `nats://***@a:4222,nats://b`: no");
}

#[test]
fn tables_of_the_file_are_structs_of_settings() {
    let file = "[[service]]\nname = 'orders'\nport = [8080, 8081]\ncommand = ['./orders', '--fast']\n\n[[service]]\nname = 'users'\nstandalone = true\n";
    let services = case(&[], &[], file).load().settings.services;
    assert_eq!(services.len(), 2);
    assert_eq!((services[0].settings.name.as_str(), &services[0].settings.port[..]), ("orders", &[8080, 8081][..]));
    assert_eq!(services[0].settings.command, ["./orders", "--fast"]);
    assert!(services[1].settings.standalone);
    assert!(matches!(services[1].source, Source::File { line: 6, .. }), "{:?}", services[1].source);
}

#[test]
fn problems_of_tables_are_reported_together_with_all_others() {
    let file =
        "count = 'x'\n[[service]]\nname = 'orders'\nprot = 1\n[[service]]\nport = 99999\n[[service]]\nport = 1\n";
    let (_, lines) = case(&[], &[], file).complaints();
    let expected = [
        "example.toml:1: count = `x`: invalid digit found in string (--count: How many)",
        "example.toml:4: prot: no such setting; did you mean `port`?",
        "example.toml:6: port = `99999`: 99999 is not in 0..=65535 (--port: Its ports)",
        "example.toml:7: [[service]]: --name <NAME> must be given",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_reference_lists_every_name_of_a_setting() {
    let reference = Program::new("example").reference::<Example>();
    let count = reference.settings.iter().find(|setting| setting.name == "count").unwrap();
    assert_eq!(count.flag.as_deref(), Some("--count"));
    assert_eq!(count.variables, ["MUSTER_COUNT"]);
    assert_eq!((count.default.as_deref(), count.help.as_str()), (Some("3"), "How many"));
    assert_eq!(reference.tables[0].settings.len(), 4);
    let names: Vec<&str> = reference.commands.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(names, ["muster-example", "muster-example run"]);
    assert_eq!(reference.commands[1].arguments.len(), 1);
}

#[test]
fn help_and_version_are_no_problems() {
    for flag in ["--help", "--version"] {
        let loaded = Program::new("example").load::<Example>(case(&[flag], &[("MUSTER_COUNT", "x")], "").inputs);
        assert!(matches!(loaded, Err(LoadError::Display(ref text)) if !text.use_stderr()), "{loaded:?}");
    }
    let reference = Program::new("example").load::<Example>(case(&["--reference"], &[], "").inputs);
    assert!(matches!(reference, Err(LoadError::Reference(_))), "{reference:?}");
}

/// A program that does nothing without a command.
#[derive(Debug, clap::Parser)]
#[command(name = "commanded", subcommand_required = true)]
struct Commanded {
    #[command(subcommand)]
    command: Errand,
}

#[derive(Debug, clap::Subcommand)]
enum Errand {
    Go,
}

impl Settings for Commanded {
    fn check(&mut self, _check: &mut Check) {
        let Errand::Go = self.command;
    }
}

#[test]
fn the_reference_is_printed_where_a_command_is_missing_and_is_no_flag_beside_others() {
    let program = Program::new("commanded");
    let reference = program.load::<Commanded>(case(&["--reference"], &[], "").inputs);
    assert!(matches!(reference, Err(LoadError::Reference(_))), "{reference:?}");
    let beside = program.load::<Commanded>(case(&["go", "--reference"], &[], "").inputs);
    assert!(matches!(beside, Err(LoadError::Problems(_))), "{beside:?}");
    assert!(program.load::<Commanded>(case(&["go"], &[], "").inputs).is_ok());
}
