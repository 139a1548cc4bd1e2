//! Reading: bytes are pushed in as they come, in pieces of any size, and at the end there is a catalog, or a reason.
//!
//! Nothing is believed before the checksum at the end has been found right.

use std::sync::Arc;

use muster_schemas::ServiceName;
use sha2::{Digest as _, Sha256};

use super::gathering::{Gathered, Gathering};
use super::reading::{Readers, Reading};
use super::{CHECKSUM_BYTES, Checkpoint, CheckpointError, FORMAT_VERSION, FRAME_BYTES_MAX, Header, MAGIC, Written};
use crate::core::catalog::{Catalog, Epoch, EventMark, FOLD_VERSIONS};

/// The longest first line that is looked at.
const LINE_BYTES_MAX: usize = 64;

/// A checkpoint that is being read.
#[derive(Debug, Default)]
pub struct Restoring {
    /// Bytes that are not yet a whole frame.
    held: Vec<u8>,
    hash: Sha256,
    bytes: u64,
    part: Part,
    header: Option<Header>,
    services: Vec<(ServiceName, u64)>,
    reading: Reading,
    gathering: Gathering,
    checksum: Option<[u8; CHECKSUM_BYTES]>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Line,
    Header,
    Services(u64),
    Entries(u64),
    Checksum,
    Nothing,
}

impl Restoring {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing read yet; entries will be read by these, if there are any, while further bytes are taken in.
    #[must_use]
    pub fn read_by(readers: Option<Box<dyn Readers>>) -> Self {
        Self { reading: Reading::by(readers), ..Self::default() }
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// Why they are no checkpoint, or none for this software. Nothing more may be read then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(length) = self.take(&held[used..])? {
            used += length;
        }
        held.drain(..used);
        self.held = held;
        self.gather()
    }

    /// The end of the bytes.
    ///
    /// # Errors
    /// Why they were no whole checkpoint.
    pub fn finish(mut self) -> Result<(Checkpoint, Written), CheckpointError> {
        let (Part::Nothing, Some(header), Some(checksum)) = (self.part, self.header.take(), self.checksum) else {
            return Err(CheckpointError::CutOff { bytes: self.bytes });
        };
        let written = Written { bytes: self.bytes, checksum };
        self.reading.close();
        self.gather()?;
        let Gathered { mut catalog, claims, vouched } = self.gathering.finish()?;
        catalog.claims = self.reading.put_in_order(claims)?;
        let checkpoint = Checkpoint { vouched, ..complete(catalog, header, self.services)? };
        Ok((checkpoint, written))
    }

    /// Takes one part from the front; how long it was, or `None` while it is not there whole.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, CheckpointError> {
        let length = match self.part {
            Part::Line => self.line(bytes)?,
            Part::Checksum => self.checksum(bytes)?,
            Part::Nothing if bytes.is_empty() => None,
            Part::Nothing => return Err(CheckpointError::corrupt("bytes follow its end")),
            Part::Header | Part::Services(_) | Part::Entries(_) => match frame(bytes)? {
                Some(frame) => {
                    self.frame(frame)?;
                    Some(4 + frame.len())
                }
                None => None,
            },
        };
        if let (Some(length), true) = (length, !matches!(self.part, Part::Nothing)) {
            self.hash.update(&bytes[..length]);
        }
        // Parts of which there are none are over before they begin.
        if self.part == Part::Services(0) {
            let entries = self.header.as_ref().map_or(0, |header| header.entries);
            self.part = Part::Entries(entries);
        }
        if self.part == Part::Entries(0) {
            self.part = Part::Checksum;
        }
        Ok(length)
    }

    fn line(&mut self, bytes: &[u8]) -> Result<Option<usize>, CheckpointError> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC.as_bytes()[..known] {
            return Err(CheckpointError::NotACheckpoint);
        }
        let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
            return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(CheckpointError::NotACheckpoint) };
        };
        let version = String::from_utf8_lossy(&bytes[MAGIC.len()..end]);
        if version != FORMAT_VERSION.to_string() {
            return Err(CheckpointError::OtherFormat { found: version.chars().take(16).collect() });
        }
        self.part = Part::Header;
        Ok(Some(end + 1))
    }

    fn checksum(&mut self, bytes: &[u8]) -> Result<Option<usize>, CheckpointError> {
        let Some(expected) = bytes.first_chunk::<CHECKSUM_BYTES>() else {
            return Ok(None);
        };
        let found: [u8; CHECKSUM_BYTES] = self.hash.clone().finalize().into();
        if found != *expected {
            return Err(CheckpointError::corrupt("its checksum is another"));
        }
        self.part = Part::Nothing;
        self.checksum = Some(found);
        Ok(Some(CHECKSUM_BYTES))
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), CheckpointError> {
        match self.part {
            Part::Header => {
                let header: Header = read(frame, "header")?;
                if !FOLD_VERSIONS.contains(&header.fold_version) {
                    return Err(CheckpointError::OtherFold { found: header.fold_version });
                }
                self.part = Part::Services(header.services);
                self.gathering.expect(header.entries);
                self.header = Some(header);
            }
            Part::Services(left) => {
                self.services.push(read(frame, "service")?);
                self.part = Part::Services(left - 1);
            }
            Part::Entries(left) => {
                self.reading.put(frame);
                self.part = Part::Entries(left - 1);
            }
            Part::Line | Part::Checksum | Part::Nothing => {}
        }
        Ok(())
    }

    /// Puts together what has been read.
    fn gather(&mut self) -> Result<(), CheckpointError> {
        let gathering = &mut self.gathering;
        self.reading.hand_on(|stretch| gathering.take(stretch))
    }
}

/// A whole frame at the front, without its length.
fn frame(bytes: &[u8]) -> Result<Option<&[u8]>, CheckpointError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(CheckpointError::corrupt(format!("a frame of {length} bytes")));
    }
    Ok(rest.get(..length))
}

pub(super) fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, CheckpointError> {
    let unreadable = |error: &dyn std::fmt::Display| CheckpointError::corrupt(format!("unreadable {what}: {error}"));
    // That it is text is looked at once, and not again for each string in it.
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

fn complete(
    mut catalog: Catalog,
    header: Header,
    services: Vec<(ServiceName, u64)>,
) -> Result<Checkpoint, CheckpointError> {
    for (name, revision) in services {
        let Some(service) = catalog.services.get_mut(&name) else {
            return Err(CheckpointError::corrupt(format!("nothing is held of service {name}")));
        };
        service.revision = revision;
    }
    if catalog.digest != header.digest {
        return Err(CheckpointError::corrupt("its entries have another digest"));
    }
    catalog.epoch = Some(Epoch {
        id: header.epoch,
        previous: header.previous_epoch,
        began_at: header.epoch_began_at,
        state: header.state,
        fold_version: header.fold_version,
    });
    catalog.revision = header.revision;
    catalog.stream_time = header.stream_time;
    catalog.last_event = Some(EventMark { id: header.last_event_id.map(Arc::from), at: header.last_event_at });
    let stream_created_at = header.stream_created_at;
    Checkpoint::of(&catalog, stream_created_at).ok_or_else(|| CheckpointError::corrupt("no log is in force in it"))
}
