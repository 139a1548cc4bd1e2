//! What a NATS client calls itself: told in the first line that it sends, `CONNECT {…,"name":"…",…}`.

use tokio::sync::watch;

/// A first line that is longer is not one of NATS.
const FIRST_LINE_BYTES_MAX: usize = 16 * 1024;

/// Reads along until the name is known.
pub(super) struct Listening {
    named: watch::Sender<Option<String>>,
    first_line: Option<Vec<u8>>,
}

impl Listening {
    pub(super) fn new(named: watch::Sender<Option<String>>) -> Self {
        Self { named, first_line: Some(Vec::new()) }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        let Some(line) = &mut self.first_line else { return };
        line.extend_from_slice(bytes);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            self.named.send_replace(name_in(&line[..end]));
            self.first_line = None;
        } else if line.len() > FIRST_LINE_BYTES_MAX {
            self.first_line = None;
        }
    }
}

fn name_in(line: &[u8]) -> Option<String> {
    let connect: serde_json::Value = serde_json::from_slice(line.strip_prefix(b"CONNECT ")?).ok()?;
    Some(connect["name"].as_str()?.to_owned())
}
