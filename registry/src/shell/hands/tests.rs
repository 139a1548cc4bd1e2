//! What happens where too much is under way, without a broker.

use std::collections::BTreeMap;

use clap::Parser;

use super::*;

/// Nothing takes as long as this.
const SOON: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    broker: BrokerSettings,
}

/// Hands on connections that never come about, and what their answers come by.
async fn hands(requests_max: usize, answers_max: usize) -> (Hands, mpsc::Receiver<Answer>) {
    let arguments = ["", "--server", "nats://127.0.0.1:1"];
    let broker = Arguments::try_parse_from(arguments).expect("settings").broker;
    let connection = |name: &str| broker.connect_in_background(Role::new(name));
    let (log, output) = (connection("log").await.expect("begun"), connection("output").await.expect("begun"));
    let (answers, answered) = mpsc::channel(answers_max);
    let tools = Tools {
        inspection_role: Role::new("inspection").ends_at_disconnect(),
        subjects: Subjects::new(broker.prefix.clone(), broker.namespace.clone()),
        stream_replicas: 1,
        timing: Timing { probe_timeout_ms: 100, ..Timing::default() },
        log,
        output,
        answers,
        deliveries: mpsc::channel(1).0,
        proposals: mpsc::channel(1).0,
        store: mpsc::channel(1).0,
        server_inbox: "_INBOX.servers".to_owned(),
        broker,
    };
    (Hands::with_requests(tools, requests_max), answered)
}

fn probes(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Effect> {
    let agent = AgentId::new("web1").expect("a name");
    numbers.map(move |probe| Effect::Probe { probe, agent: agent.clone() })
}

/// What became of so many probes, and the first that came to its end.
async fn outcomes(answered: &mut mpsc::Receiver<Answer>, count: usize) -> (u64, BTreeMap<u64, &'static str>) {
    let (mut first, mut outcomes) = (None, BTreeMap::new());
    while outcomes.len() < count {
        let answer = tokio::time::timeout(SOON, answered.recv()).await;
        let Ok(Some(Answer::Probed { probe, outcome })) = answer else {
            panic!("{outcomes:?}, and then {answer:?}");
        };
        let outcome = match outcome {
            Probed::Timeout => "timeout",
            Probed::Failed => "failed",
            _ => "answered",
        };
        first.get_or_insert(probe);
        assert!(outcomes.insert(probe, outcome).is_none(), "{probe} came twice");
    }
    (first.expect("there is one"), outcomes)
}

#[tokio::test]
async fn one_request_more_than_may_be_under_way_has_failed_at_once_until_there_is_room() {
    let (mut hands, mut answered) = hands(2, 8).await;
    hands.set_output(true);
    hands.perform(probes(1..4)).await;
    let expected = BTreeMap::from([(1, "timeout"), (2, "timeout"), (3, "failed")]);
    assert_eq!(outcomes(&mut answered, 3).await, (3, expected));
    hands.perform(probes(4..5)).await;
    assert_eq!(outcomes(&mut answered, 1).await.1, BTreeMap::from([(4, "timeout")]));
}

#[tokio::test]
async fn answers_for_which_there_is_no_room_wait_and_none_is_lost() {
    let (mut hands, mut answered) = hands(100, 1).await;
    hands.perform(probes(0..50)).await;
    let full = async {
        while answered.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, full).await.expect("an answer");
    // Every one has had its turn by then.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let (_, outcomes) = outcomes(&mut answered, 50).await;
    assert_eq!(outcomes, (0..50).map(|probe| (probe, "failed")).collect());
}
