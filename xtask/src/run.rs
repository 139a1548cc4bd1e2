//! Running other programs: quietly, with a sign of life on long steps, and with their output when they fail.

use std::fs::{self, File};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::workspace;

const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
static LOG_NUMBER: AtomicU32 = AtomicU32::new(0);

/// The command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs to the end and returns what it printed; prints a line every 10 s meanwhile. A failure carries the output.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let (status, output) = captured(command)?;
    if !status.success() {
        bail!("`{line}` failed ({status}):\n{}", output.trim_end());
    }
    Ok(output)
}

/// Runs to the end with its output on our terminal, and returns whether it succeeded.
pub(crate) fn shown_through(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    Ok(status.success())
}

/// Runs to the end and returns its status and what it printed on both streams.
pub(crate) fn captured(command: &mut Command) -> Result<(ExitStatus, String)> {
    let line = shown(command);
    let number = LOG_NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = workspace::tools().join(format!(".output-{}-{number}", std::process::id()));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let spawned = command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
    let status = match spawned {
        Ok(mut child) => wait_with_signs_of_life(&mut child),
        Err(error) => Err(error).with_context(|| format!("cannot run `{line}`")),
    };
    let output = fs::read(&path).unwrap_or_default();
    // The file is scratch space below `target`; if it stays behind, nothing else is wrong.
    let _ = fs::remove_file(&path);
    Ok((status?, String::from_utf8_lossy(&output).into_owned()))
}

fn wait_with_signs_of_life(child: &mut std::process::Child) -> Result<ExitStatus> {
    let started = Instant::now();
    let mut next_sign = SIGN_OF_LIFE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() >= next_sign {
            say!("    still at it ({} s)", next_sign.as_secs());
            next_sign += SIGN_OF_LIFE;
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::quietly;
    use crate::workspace;

    #[test]
    fn a_failing_command_tells_its_command_line_and_its_output() {
        fs::create_dir_all(workspace::tools()).unwrap();
        let error = quietly(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such luck"), "{error}");
    }
}
