//! Which id an agent gets, beside others and after them.

use super::*;

fn settings(directory: &Path, purpose: &str) -> IdentitySettings {
    IdentitySettings {
        node: Some("web1".to_owned()),
        agent: None,
        state_directory: Some(directory.to_owned()),
        purpose: purpose.to_owned(),
    }
}

fn establish(settings: &IdentitySettings) -> Identity {
    Identity::establish(settings, |error| panic!("{error}")).unwrap()
}

#[test]
fn a_lone_agent_is_called_like_its_node_and_the_next_ones_are_numbered() {
    let directory = tempfile::tempdir().unwrap();
    let first = establish(&settings(directory.path(), "a"));
    let second = establish(&settings(directory.path(), "b"));
    let third = establish(&settings(directory.path(), "b"));
    let ids = [&first, &second, &third].map(|identity| identity.agent.as_str());
    assert_eq!(ids, ["web1", "web1-2", "web1-3"]);
    assert_eq!(first.node_id, third.node_id);
}

#[test]
fn agents_find_their_ids_again_whatever_the_order_they_start_in() {
    let directory = tempfile::tempdir().unwrap();
    let both = [establish(&settings(directory.path(), "a")), establish(&settings(directory.path(), "b"))];
    drop(both);
    let b = establish(&settings(directory.path(), "b"));
    let a = establish(&settings(directory.path(), "a"));
    assert_eq!((a.agent.as_str(), b.agent.as_str()), ("web1", "web1-2"));
}

#[test]
fn an_agent_that_runs_something_else_takes_the_lowest_free_id() {
    let directory = tempfile::tempdir().unwrap();
    drop(establish(&settings(directory.path(), "a")));
    assert_eq!(establish(&settings(directory.path(), "b")).agent.as_str(), "web1");
}

#[test]
fn the_nodes_id_is_kept_and_a_broken_one_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let first = establish(&settings(directory.path(), "a")).node_id;
    assert_eq!(establish(&settings(directory.path(), "a")).node_id, first);
    std::fs::write(directory.path().join("node-id"), "rubbish").unwrap();
    let second = establish(&settings(directory.path(), "a")).node_id;
    assert_ne!(second, first);
    assert!(Ulid::from_string(&second).is_ok());
}

#[test]
fn a_directory_that_was_named_must_be_writable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Identity::establish(&settings(&file, "a"), |_| {}).unwrap_err();
    assert!(error.to_string().contains("--state-dir"), "{error}");
}

#[test]
fn an_id_that_was_given_needs_no_lock() {
    let directory = tempfile::tempdir().unwrap();
    let mut given = settings(directory.path(), "a");
    given.agent = Some(AgentId::new("mine").unwrap());
    let both = [establish(&given), establish(&given)];
    assert!(both.iter().all(|identity| identity.agent.as_str() == "mine"));
}

#[test]
fn a_name_that_is_too_long_says_which_setting_helps() {
    let directory = tempfile::tempdir().unwrap();
    let mut long = settings(directory.path(), "a");
    long.node = Some("x".repeat(200));
    let error = Identity::establish(&long, |_| {}).unwrap_err();
    assert!(error.to_string().contains("--node"), "{error}");
}

#[test]
fn one_agent_too_many_on_a_host_is_refused_until_another_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut running: Vec<_> = (0..3).map(|_| claim(directory.path(), "a", 3).unwrap()).collect();
    let refused = claim(directory.path(), "a", 3).unwrap_err();
    assert!(refused.to_string().contains("give this one an id with --agent-id"), "{refused}");
    let (number, lock) = running.remove(1);
    drop(lock);
    assert_eq!(claim(directory.path(), "a", 3).unwrap().0, number);
}
