//! Standard output for people who pipe it: a closed pipe is a quiet end, never a panic.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use crate::exit::{Exit, end_process};

/// The code a shell shows for a process killed by SIGPIPE (128 + 13): what `yes | head` leaves behind.
const CLOSED_PIPE_CODE: i32 = 141;

/// Writes one line to standard output and flushes it.
///
/// If the reader went away (`muster watch | head -1`), the process ends quietly with code 141, as a program killed by
/// SIGPIPE would. Any other error of standard output (a full disk) ends it with a message and code 1.
pub fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = write_line(&mut stdout, line) {
        end_after(&error);
    }
}

/// Ends the process as [`print_line`] would, as soon as the reader of standard output has gone away: for programs that
/// may have nothing to print for long (`muster watch | head -1`). Waits for ever where that cannot be told, as with files.
pub async fn end_when_closed() {
    // Only looked at: "unchecked" leaves it blocking, for whoever prints and for whoever shares it with us.
    let watched = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    if let Ok(stdout) = watched
        && stdout.ready(Interest::ERROR).await.is_ok()
    {
        end_process(CLOSED_PIPE_CODE);
    }
    std::future::pending::<()>().await;
}

/// Writes one line and flushes, so that a reader sees it at once.
///
/// # Errors
/// The writer's; a part of the line may have been written.
pub fn write_line(writer: &mut impl Write, line: &str) -> io::Result<()> {
    writer.write_all(line.as_bytes())?;
    writer.write_all(b"\n")?;
    writer.flush()
}

fn end_after(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        end_process(CLOSED_PIPE_CODE);
    }
    let program = std::env::args().next().unwrap_or_default();
    Exit::Failed.end(&program, format!("cannot write to standard output: {error}"))
}

/// Writes the completion script of `command` for `shell` to standard output.
pub fn print_completions(command: &mut clap::Command, shell: Shell) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    print_line(String::from_utf8_lossy(&script).trim_end());
}

/// The shells `print_completions` knows; usable as a `clap` argument type.
pub use clap_complete::Shell;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_a_newline_and_is_flushed() {
        let mut written = Vec::new();
        write_line(&mut written, "orders").unwrap();
        assert_eq!(written, b"orders\n");
    }
}
