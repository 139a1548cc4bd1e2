//! The agent's program: reads its settings, runs its services, returns their code.

use std::process::ExitCode;

use muster_agent::process::settings::AgentSettings;
use muster_agent::process::{guard, launch, meters};
use muster_runtime::settings::Program;

fn main() -> ExitCode {
    // Before everything else: a guard has no settings, and none of them may keep it from its duty.
    if std::env::args_os().nth(1).is_some_and(|command| command == guard::COMMAND) {
        guard::run();
        return ExitCode::SUCCESS;
    }
    let loaded = Program::new("agent").metrics(meters::docs).load_or_exit::<AgentSettings>();
    loaded.settings.log.start();
    loaded.log_warnings();
    // One thread: it waits nearly always, and each more would cost memory on every host.
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(muster_agent::process::agent::AgentError::own)
        .and_then(|runtime| runtime.block_on(launch::run(loaded.settings)));
    let code = ended.unwrap_or_else(|error| {
        tracing::error!("{error}");
        error.code()
    });
    ExitCode::from(code)
}
