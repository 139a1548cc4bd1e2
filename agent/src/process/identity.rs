//! Who this agent is: the node's name and id, and an agent id that no other agent on this host has at the same time.
//!
//! The state directory holds `node-id`, and `agent-<n>.lock` for the n-th agent of the host. A running agent holds the
//! lock; the file says what it ran, so that agents started in another order find their ids again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use muster_schemas::AgentId;
use ulid::Ulid;

/// More agents than this on one host are refused.
const AGENTS_MAX: u32 = 1_000;
/// What is read of a file of our own at most, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory or a file in it.
    #[error("cannot keep state in {path}: {reason}; name a directory that this user may write with --state-dir")]
    State {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The node's name is none.
    #[error("{reason}; give another name with --node, or an id with --agent-id")]
    Name {
        /// Why.
        reason: String,
    },
    /// Too many agents.
    #[error("{AGENTS_MAX} agents run on this host already (locks in {path}): give this one an id with --agent-id")]
    TooMany {
        /// The state directory.
        path: PathBuf,
    },
}

/// Who this agent is. The agent id is its own as long as this lives.
#[derive(Debug)]
pub struct Identity {
    /// The node's name.
    pub node: String,
    /// The node's id.
    pub node_id: String,
    /// The agent's id.
    pub agent: AgentId,
    /// Held, not read: the lock ends with it.
    _lock: Option<Lock>,
}

/// A file with our lock on it.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a child that is just being started has the file open for a moment as well.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// What was configured.
#[derive(Debug, Clone, Default)]
pub struct IdentitySettings {
    /// The node's name.
    pub node: Option<String>,
    /// The agent's id.
    pub agent: Option<AgentId>,
    /// The state directory.
    pub state_directory: Option<PathBuf>,
    /// What the agent runs, on one line.
    pub purpose: String,
}

impl Identity {
    /// Finds out who this agent is. Without a directory to write to, an agent whose directory nobody named goes on with
    /// a fresh node id and the node's name as its own; `warn` is told.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing is held then.
    pub fn establish(settings: &IdentitySettings, warn: impl FnOnce(&IdentityError)) -> Result<Self, IdentityError> {
        let node = match &settings.node {
            Some(node) => node.clone(),
            None => host_name()?,
        };
        let directory = settings.state_directory.clone().or_else(default_directory);
        let Some(directory) = directory else {
            let reason = io::Error::other("neither XDG_STATE_HOME nor HOME is an absolute path");
            let path = PathBuf::from("(no directory)");
            warn(&IdentityError::State { path, reason });
            return Self::without_state(node, settings);
        };
        match Self::in_directory(&node, settings, &directory) {
            Err(error @ IdentityError::State { .. }) if settings.state_directory.is_none() => {
                warn(&error);
                Self::without_state(node, settings)
            }
            established => established,
        }
    }

    fn in_directory(node: &str, settings: &IdentitySettings, directory: &Path) -> Result<Self, IdentityError> {
        let state = |path: PathBuf| move |reason| IdentityError::State { path, reason };
        std::fs::create_dir_all(directory).map_err(state(directory.to_owned()))?;
        let path = directory.join("node-id");
        let node_id = node_id(&path).map_err(state(path))?;
        let (agent, lock) = match &settings.agent {
            Some(agent) => (agent.clone(), None),
            None => {
                let (number, lock) = claim(directory, &settings.purpose, AGENTS_MAX)?;
                (agent_id(node, number)?, Some(lock))
            }
        };
        Ok(Self { node: node.to_owned(), node_id, agent, _lock: lock })
    }

    fn without_state(node: String, settings: &IdentitySettings) -> Result<Self, IdentityError> {
        let agent = match &settings.agent {
            Some(agent) => agent.clone(),
            None => agent_id(&node, 1)?,
        };
        Ok(Self { node, node_id: new_id(), agent, _lock: None })
    }
}

fn host_name() -> Result<String, IdentityError> {
    let name = nix::unistd::gethostname().map_err(|error| IdentityError::Name {
        reason: format!("the system does not tell the host's name: {error}"),
    })?;
    Ok(name.to_string_lossy().into_owned())
}

/// `/var/lib/muster` for root, else `$XDG_STATE_HOME/muster`, else `~/.local/state/muster`.
fn default_directory() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/muster"));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    home.map(|home| home.join("muster"))
}

fn agent_id(node: &str, number: u32) -> Result<AgentId, IdentityError> {
    let text = if number == 1 { node.to_owned() } else { format!("{node}-{number}") };
    AgentId::new(&text).map_err(|error| IdentityError::Name { reason: error.to_string() })
}

fn new_id() -> String {
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    Ulid::from_parts(u64::try_from(now_ms).unwrap_or_default(), rand::random()).to_string()
}

/// The id in the file, or a new one that is kept there. Whoever comes first decides.
fn node_id(path: &Path) -> io::Result<String> {
    let file = open(path)?;
    file.lock()?;
    let mut file = Lock(file);
    let text = read(&mut file.0)?;
    let known = text.trim();
    if Ulid::from_string(known).is_ok() {
        return Ok(known.to_owned());
    }
    let id = new_id();
    replace(&mut file.0, &id)?;
    Ok(id)
}

/// Takes the lock of one number: the one that ran the same before, else the lowest that is free.
fn claim(directory: &Path, purpose: &str, agents_max: u32) -> Result<(u32, Lock), IdentityError> {
    let state = |path: &Path| {
        let path = path.to_owned();
        move |reason| IdentityError::State { path, reason }
    };
    // Held while choosing, so that two agents that start at once do not see each other's tries.
    let gate_path = directory.join("agents.lock");
    let gate = open(&gate_path).map_err(state(&gate_path))?;
    gate.lock().map_err(state(&gate_path))?;
    let _gate = Lock(gate);
    let mut lowest_free = None;
    for number in 1..=agents_max {
        let path = directory.join(format!("agent-{number}.lock"));
        let is_new = !path.exists();
        if is_new && lowest_free.is_some() {
            break;
        }
        let file = open(&path).map_err(state(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(reason)) => return Err(state(&path)(reason)),
            Ok(()) => {}
        }
        let mut lock = Lock(file);
        if read(&mut lock.0).map_err(state(&path))? == purpose {
            return Ok((number, lock));
        }
        lowest_free.get_or_insert((number, lock, path));
    }
    let Some((number, mut lock, path)) = lowest_free else {
        return Err(IdentityError::TooMany { path: directory.to_owned() });
    };
    replace(&mut lock.0, purpose).map_err(state(&path))?;
    Ok((number, lock))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn replace(file: &mut File, text: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
