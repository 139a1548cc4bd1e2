//! The lines that a process prints, kept in a bounded buffer.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

/// Beyond it the oldest line goes.
const LINES_MAX: usize = 10_000;
/// A longer line is cut into several.
const LINE_BYTES_MAX: u64 = 256 * 1024;
const TAIL_LINES: usize = 30;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a process printed.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number among all lines of the process, from 0.
    pub index: u64,
    /// When we read it.
    pub at: Instant,
    /// Where it came from.
    pub stream: Stream,
    /// Its text without the line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

#[derive(Debug, Default)]
struct Lines {
    newest: VecDeque<Line>,
    next_index: u64,
}

/// What a process printed on both of its streams.
#[derive(Debug, Default)]
pub(super) struct Output {
    lines: Mutex<Lines>,
    open_streams: AtomicUsize,
}

impl Output {
    /// Reads the child's streams, which must be piped, to their ends.
    pub(super) fn capture(child: &mut Child) -> Arc<Self> {
        let output = Arc::new(Self { open_streams: AtomicUsize::new(2), ..Self::default() });
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        read_in_background(stdout, Stream::Stdout, Arc::clone(&output));
        read_in_background(stderr, Stream::Stderr, Arc::clone(&output));
        output
    }

    fn push(&self, stream: Stream, text: String) {
        let mut lines = self.lock();
        if lines.newest.len() == LINES_MAX {
            lines.newest.pop_front();
        }
        let index = lines.next_index;
        lines.next_index += 1;
        lines.newest.push_back(Line { index, at: Instant::now(), stream, text });
    }

    /// Whether both streams were read to their ends.
    pub(super) fn is_complete(&self) -> bool {
        self.open_streams.load(Ordering::Acquire) == 0
    }

    /// The kept lines with this index or a larger one.
    pub(super) fn since(&self, index: u64) -> Vec<Line> {
        let lines = self.lock();
        let first_kept = lines.newest.front().map_or(0, |line| line.index);
        let skipped = usize::try_from(index.saturating_sub(first_kept)).unwrap_or(usize::MAX);
        lines.newest.iter().skip(skipped).cloned().collect()
    }

    /// The newest lines, for people.
    pub(super) fn tail(&self) -> String {
        let lines = self.lock();
        let shown = lines.newest.iter().skip(lines.newest.len().saturating_sub(TAIL_LINES));
        let shown: Vec<String> = shown.map(|line| format!("\n    {:?} {}", line.stream, line.text)).collect();
        format!("{} lines, the newest {}:{}", lines.next_index, shown.len(), shown.concat())
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("nothing panics while it holds the lines")
    }
}

fn read_in_background(stream: impl Read + Send + 'static, kind: Stream, output: Arc<Output>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        // An error is the end as well: the process is gone, and what it said is kept.
        while matches!(reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes);
            output.push(kind, text.trim_end_matches(['\n', '\r']).to_owned());
            bytes.clear();
        }
        output.open_streams.fetch_sub(1, Ordering::Release);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_go_when_the_buffer_is_full_and_indices_stay() {
        let output = Output::default();
        for number in 0..LINES_MAX + 5 {
            output.push(Stream::Stdout, number.to_string());
        }
        let all = output.since(0);
        assert_eq!(all.len(), LINES_MAX);
        assert_eq!((all[0].index, all[0].text.as_str()), (5, "5"));
        assert_eq!(
            output.since(LINES_MAX as u64 + 3).iter().map(|line| line.index).collect::<Vec<_>>(),
            [10_003, 10_004]
        );
        assert!(output.since(20_000).is_empty());
    }
}
