//! The waiter waits, gives up in time, and says what it saw.

use std::convert::Infallible;
use std::future::pending;
use std::panic::AssertUnwindSafe;

use super::*;

/// The message of the panic in which the future must end.
async fn panic_of(future: impl Future<Output = ()> + 'static) -> String {
    let local = tokio::task::LocalSet::new();
    let joined = local.run_until(async { tokio::task::spawn_local(AssertUnwindSafe(future).0).await }).await;
    let payload = joined.expect_err("it did not panic").into_panic();
    payload.downcast_ref::<String>().expect("a panic with a formatted message").clone()
}

#[tokio::test]
async fn what_the_condition_answers_is_returned() {
    let mut looks = 0;
    let answer = eventually("the third look", Duration::from_secs(5), async || {
        looks += 1;
        if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
    })
    .await;
    assert_eq!(answer, 3);
}

#[tokio::test]
async fn at_the_deadline_the_panic_says_what_was_last_seen_and_where_it_waited() {
    let message =
        panic_of(eventually("four lines", Duration::from_millis(50), async || Err::<(), _>("three lines"))).await;
    assert!(message.contains("not within 50ms: four lines"), "{message}");
    assert!(message.contains("last saw: three lines"), "{message}");
    assert!(message.contains(file!()), "{message}");
}

#[tokio::test]
async fn a_look_that_never_ends_is_cut_off_at_the_deadline() {
    let message = panic_of(eventually("an answer", Duration::from_millis(50), async || {
        pending::<Result<(), Infallible>>().await
    }))
    .await;
    assert!(message.contains("a look that did not end"), "{message}");
}

#[tokio::test]
async fn a_condition_that_holds_to_the_end_passes() {
    let start = Instant::now();
    throughout("it holds", Duration::from_millis(50), async || Ok::<(), Infallible>(())).await;
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_condition_that_breaks_fails_at_once() {
    let mut looks = 0;
    let message = panic_of(throughout("nobody is removed", Duration::from_secs(60), async move || {
        looks += 1;
        if looks < 3 { Ok(()) } else { Err("web1-8080 removed") }
    }))
    .await;
    assert!(message.contains("nobody is removed") && message.contains("saw: web1-8080 removed"), "{message}");
}
