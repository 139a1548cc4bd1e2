//! The other generated pages: settings of each program, commands, exit codes.

use super::markdown::{code, paragraphs, sentence, table};
use super::reference::{ExitCode, Reference, Setting, Task};

/// Settings of one program.
pub(super) fn configuration(reference: &Reference) -> String {
    let program = &reference.program;
    let file = program.strip_prefix("muster-").unwrap_or("muster");
    let mut text = format!(
        "# Configuration of {program}\n\n\
         {}\n\n\
         A flag wins over the environment, the environment over the file, the file over the default. The file is the one that\n\
         `--config` or `MUSTER_CONFIG` names, else `muster/{file}.toml` in the user's configuration directory, else\n\
         `/etc/muster/{file}.toml`. A list is written with commas in a variable, and as an array in the file. Everything that is\n\
         wrong is reported at once.\n",
        finished(&sentence(&reference.about))
    );
    for section in sections(&reference.settings) {
        text.push_str(&format!("\n## {}\n\n", section.unwrap_or("Other")));
        let settings = reference.settings.iter().filter(|setting| setting.section.as_deref() == section);
        let header = ["flag", "environment", "in the file", "default", "what it is for"];
        text.push_str(&table(&header, settings.map(setting_row)));
    }
    for array in &reference.tables {
        let name = &array.name;
        text.push_str(&format!("\n## Tables `[[{name}]]` in the file\n\n"));
        text.push_str("One for each; the keys are the flags of the command, with underscores for dashes.\n\n");
        let header = ["key", "default", "what it is for"];
        text.push_str(&table(&header, array.settings.iter().map(|it| vec![code(&it.name), default(it), help(it)])));
    }
    text
}

/// In the order in which they first occur.
fn sections(settings: &[Setting]) -> Vec<Option<&str>> {
    let mut sections: Vec<Option<&str>> = Vec::new();
    for setting in settings {
        if !sections.contains(&setting.section.as_deref()) {
            sections.push(setting.section.as_deref());
        }
    }
    sections
}

fn setting_row(setting: &Setting) -> Vec<String> {
    let variables: Vec<String> = setting.variables.iter().map(|variable| code(variable)).collect();
    vec![code(&spelled(setting)), variables.join(", "), code(&setting.name), default(setting), help(setting)]
}

/// As it is typed: `--server <URL>`, `--all`, `[SERVICES]…`.
fn spelled(setting: &Setting) -> String {
    let value = setting.value_name.clone().unwrap_or_else(|| setting.name.to_uppercase());
    let dots = if setting.repeatable { "…" } else { "" };
    match &setting.flag {
        Some(flag) if setting.is_switch() => flag.clone(),
        Some(flag) => format!("{flag} <{value}>{dots}"),
        None if setting.required => format!("<{value}>{dots}"),
        None => format!("[{value}]{dots}"),
    }
}

fn default(setting: &Setting) -> String {
    match (setting.default.as_deref(), told_default(&setting.help)) {
        (Some(default), _) if !setting.is_switch() && !default.is_empty() => code(default),
        (_, Some((_, told))) => sentence(told),
        _ if setting.required => "required".to_owned(),
        _ => String::new(),
    }
}

/// Where a default is not one value, the help ends with `[default: what it is]`.
fn told_default(help: &str) -> Option<(&str, &str)> {
    help.trim_end().strip_suffix(']')?.split_once("[default: ")
}

fn help(setting: &Setting) -> String {
    let text = told_default(&setting.help).map_or(setting.help.as_str(), |(text, _)| text);
    let values: Vec<String> = setting.possible_values.iter().map(|value| code(value)).collect();
    let is_choice = !values.is_empty() && !setting.is_switch();
    let values = if is_choice { format!("; one of {}", values.join(", ")) } else { String::new() };
    format!("{}{values}", sentence(text))
}

/// All commands of all programs.
pub(super) fn commands(references: &[Reference]) -> String {
    let mut text = String::from(
        "# Commands\n\n\
         Every command also takes the settings of its program, `--help` and `--version`.\n\n",
    );
    let all = || references.iter().flat_map(|reference| &reference.commands);
    let link = |task: &Task| format!("[`{}`](#{})", task.name, task.name.replace(' ', "-"));
    text.push_str(&table(
        &["command", "what it does"],
        all().map(|task| vec![link(task), sentence(task.about.trim_end_matches('.'))]),
    ));
    for reference in references {
        for task in &reference.commands {
            text.push_str(&command(task, &page_of(reference)));
        }
    }
    text
}

fn command(task: &Task, settings_page: &str) -> String {
    let mut text = format!("\n## {}\n\n```console\n{}\n```\n\n", task.name, task.usage);
    text.push_str(&paragraphs(task.long_about.as_deref().unwrap_or(&task.about)));
    if !task.name.contains(' ') {
        text.push_str(&format!("\nIts settings: [{settings_page}]({settings_page}).\n"));
    }
    if !task.arguments.is_empty() {
        let rows =
            task.arguments.iter().map(|argument| vec![code(&spelled(argument)), default(argument), help(argument)]);
        text.push_str(&format!("\n{}", table(&["argument", "default", "what it is for"], rows)));
    }
    if let Some(examples) = &task.examples {
        text.push_str(&format!("\n{}", paragraphs(examples)));
    }
    text
}

/// The name of the page with a program's settings.
pub(super) fn page_of(reference: &Reference) -> String {
    format!("configuration-{}.md", reference.program.strip_prefix("muster-").unwrap_or("cli"))
}

/// What exit codes mean; the same in all programs.
pub(super) fn exit_codes(codes: &[ExitCode]) -> String {
    let rows = codes.iter().map(|code| vec![code.code.to_string(), sentence(&code.meaning)]);
    format!(
        "# Exit codes\n\n\
         The same in all programs. `muster-agent run` returns the code of its service where it has one:\n\
         see [`muster-agent run`](commands.md#muster-agent-run).\n\n{}",
        table(&["code", "meaning"], rows)
    )
}

fn finished(sentence: &str) -> String {
    if sentence.ends_with('.') { sentence.to_owned() } else { format!("{sentence}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, flag: Option<&str>, default: Option<&str>) -> Setting {
        Setting {
            name: name.into(),
            flag: flag.map(Into::into),
            variables: vec![format!("MUSTER_{}", name.to_uppercase())],
            value_name: Some(if default == Some("false") { name.to_uppercase() } else { "VALUE".into() }),
            default: default.map(Into::into),
            possible_values: Vec::new(),
            repeatable: false,
            required: false,
            help: "What it is for".into(),
            section: None,
        }
    }

    #[test]
    fn a_setting_is_spelled_as_it_is_typed() {
        assert_eq!(spelled(&setting("ttl", Some("--ttl"), Some("10s"))), "--ttl <VALUE>");
        assert_eq!(spelled(&setting("all", Some("--all"), Some("false"))), "--all");
        assert_eq!(spelled(&setting("services", None, None)), "[VALUE]");
        let required = Setting { required: true, repeatable: true, ..setting("services", None, None) };
        assert_eq!(spelled(&required), "<VALUE>…");
    }

    #[test]
    fn a_default_that_the_help_tells_stands_with_the_other_defaults() {
        let told =
            Setting { help: "Its id [default: the node's name, a dash]".into(), ..setting("id", Some("--id"), None) };
        assert_eq!((help(&told).as_str(), default(&told).as_str()), ("Its id", "the node's name, a dash"));
        assert_eq!(default(&setting("ttl", Some("--ttl"), Some("10s"))), "`10s`");
    }

    #[test]
    fn a_page_names_every_spelling_of_every_setting() {
        let reference = Reference {
            program: "muster-agent".into(),
            about: "Vouches".into(),
            settings: vec![setting("ttl", Some("--ttl"), Some("10s"))],
            tables: Vec::new(),
            commands: Vec::new(),
            metrics: Vec::new(),
            exit_codes: Vec::new(),
        };
        let page = configuration(&reference);
        assert!(page.contains("| `--ttl <VALUE>` | `MUSTER_TTL` | `ttl` | `10s` | What it is for |"), "{page}");
        assert!(page.contains("muster/agent.toml"), "{page}");
    }
}
