//! What a test can rely on when it starts a program.

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn shell(script: &str) -> ProcessBuilder {
    ProcessBuilder::new("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn both_streams_are_captured_and_the_exit_code_is_told() {
    let mut process = shell("echo out; echo err >&2; exit 7").start();
    assert_eq!(process.wait_exit(SOON).await.code(), Some(7));
    let mut lines: Vec<_> = process.lines().into_iter().map(|line| (line.text, line.stream)).collect();
    lines.sort_by_key(|(text, _)| text.clone());
    assert_eq!(lines, [("err".to_owned(), Stream::Stderr), ("out".to_owned(), Stream::Stdout)]);
}

#[tokio::test]
async fn a_line_after_another_is_a_later_one() {
    let process = shell("echo ready 1; echo ready 2; echo ready 3").start();
    let first = process.wait_for_line("ready", SOON).await;
    let second = process.wait_for_line_after(&first, "ready", SOON).await;
    assert_eq!((first.text.as_str(), second.text.as_str()), ("ready 1", "ready 2"));
}

#[tokio::test]
#[should_panic(expected = "Stdout something else")]
async fn a_line_that_does_not_come_is_reported_with_those_that_did() {
    let process = shell("echo something else; exec sleep 600").start();
    process.wait_for_line("something", SOON).await;
    process.wait_for_line("ready", Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_frozen_process_prints_nothing_until_it_is_thawed() {
    let process = shell("while read -r line < /proc/uptime; do echo tick; sleep 0.01; done").start();
    process.wait_for_line("tick", SOON).await;
    process.freeze();
    // What it printed before may still be on its way to us.
    let mut before = usize::MAX;
    eventually("a frozen process falls silent", SOON, async || {
        let now = process.lines().len();
        let silent = now == std::mem::replace(&mut before, now);
        if silent { Ok(()) } else { Err(format!("{now} lines")) }
    })
    .await;
    let last = process.lines().pop().unwrap();
    crate::throughout("a frozen process is silent", Duration::from_millis(100), async || {
        let newest = process.lines().pop().unwrap();
        if newest.index == last.index { Ok(()) } else { Err(newest.text) }
    })
    .await;
    process.thaw();
    process.wait_for_line_after(&last, "tick", SOON).await;
}

#[tokio::test]
#[should_panic(expected = "true ended instead of freezing")]
async fn a_process_that_ended_cannot_be_frozen() {
    let process = ProcessBuilder::new("true").start();
    let exited = format!("/proc/{}/environ", process.pid());
    if Path::new("/proc/self/environ").exists() {
        eventually("the process has ended", SOON, async || {
            let left = std::fs::read(&exited).unwrap_or_default().len();
            if left == 0 { Ok(()) } else { Err("it runs") }
        })
        .await;
    }
    process.freeze();
}

#[tokio::test]
async fn stop_lets_the_process_answer_the_signal() {
    let mut process = shell("trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.01; done").start();
    process.wait_for_line("ready", SOON).await;
    assert_eq!(process.stop(SOON).await.code(), Some(3));
    process.wait_for_line("stopping", SOON).await;
}

#[tokio::test]
async fn a_process_has_ended_although_what_it_started_keeps_its_output_open() {
    let mut process = shell("sleep 600 & exit 0").start();
    assert_eq!(process.wait_exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn kill_ends_the_process_alone() {
    let mut process = shell("sleep 600 & echo $!; wait").start();
    let child: i32 = process.wait_for_line("", SOON).await.text.parse().unwrap();
    assert_eq!(process.kill().signal(), Some(9));
    kill(Pid::from_raw(child), None).expect("what it started lives on");
}

#[tokio::test]
async fn a_dropped_process_takes_with_it_what_it_started_in_any_group() {
    let process = shell("setsid sleep 600 & sleep 600 & echo ready; wait").start();
    process.wait_for_line("ready", SOON).await;
    let mark = descendants::Mark::clone(&process.mark);
    if Path::new("/proc/self/environ").exists() {
        eventually("all three are found", SOON, async || match mark.living().len() {
            3 => Ok(()),
            other => Err(other),
        })
        .await;
    }
    drop(process);
    eventually("all are gone", SOON, async || if mark.living().is_empty() { Ok(()) } else { Err("some live") }).await;
}

#[tokio::test]
async fn the_surroundings_do_not_reach_the_process() {
    let mut process =
        shell("env | grep -c -E '^(MUSTER_|NATS_|RUST_LOG)'; env").env("MUSTER_NAMESPACE", "tested").start();
    process.wait_exit(SOON).await;
    process.wait_for_line("MUSTER_NAMESPACE=tested", SOON).await;
    assert_eq!(process.lines()[0].text, "1");
}
