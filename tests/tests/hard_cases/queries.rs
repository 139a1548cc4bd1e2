//! Questions that are against a rule: each gets an error of the closed list that names field, value and way out, and the
//! next question is answered as if nothing had been.

use std::time::Duration;

use futures::StreamExt;
use muster_schemas::query::ErrorCode::{self, BadRequest, Behind, CursorExpired, NotFound, TooLarge};
use muster_schemas::query::QueryError;
use serde_json::json;

use crate::support::{SOON, World, golden, texts};

async fn world_with_an_instance() -> World {
    let world = World::start().await;
    let mut event = golden("event.register.json");
    event["data"]["ttl_ms"] = json!(0);
    event["data"]["linger_ms"] = json!(0);
    let subject = "muster.default.event.register.orders.web1-8080.web1";
    let sequence = world.append(subject, event.to_string()).await;
    world.until_folded(sequence).await;
    world
}

async fn refused(world: &World, what: &str, body: impl Into<Vec<u8>>, code: ErrorCode) -> QueryError {
    let body = body.into();
    let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
    let error = world.ask(what, body).await.expect_err("an error");
    assert_eq!(error.code, code, "{what} {shown}: {error:?}");
    assert!(
        !error.message.is_empty() && !error.help.is_empty() && !error.field.is_empty(),
        "{what} {shown}: {error:?}"
    );
    error
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_a_bad_request() {
    let world = world_with_an_instance().await;
    let mut count = 0;
    for body in [
        "{",
        "null",
        "7",
        "\"limit\"",
        "{\"limit\":-1}",
        "{\"limit\":1.5}",
        "{\"limit\":\"many\"}",
        "{\"limit\":4294967296}",
        "{\"min_revision\":5}",
        "{\"min_revision\":[\"not a ulid\",5]}",
        "{\"min_revision\":[null,-5]}",
        "{\"filter\":7}",
        "{\"filter\":{\"routable\":\"yes\"}}",
        "{\"limit\":1}{\"limit\":1}",
    ] {
        let error = refused(&world, "query.service.orders", body, BadRequest).await;
        assert_eq!((error.field.as_str(), error.value.as_str()), ("request", body));
        count += 1;
    }
    refused(&world, "query.service.orders", [0xff, 0xfe, 0], BadRequest).await;
    refused(&world, "query.service.orders", "[".repeat(10_000), BadRequest).await;
    let nothing = refused(&world, "query.service.orders", "{\"limit\":0}", BadRequest).await;
    assert_eq!((nothing.field.as_str(), nothing.value.as_str()), ("limit", "0"));
    world.until_metric("muster_queries_total{endpoint=\"service\",answer=\"bad_request\"}", count + 3).await;

    let future = json!({ "limit": 5, "from_the_future": { "deep": [1] }, "filter": { "locality": "near" } });
    let reply = world.ask("query.service.orders", future.to_string()).await.expect("unknown fields are no error");
    assert_eq!(reply.services[0].total, 1);
}

#[tokio::test]
async fn a_request_over_the_limit_is_too_large() {
    let world = world_with_an_instance().await;
    for size in [64 * 1024 + 1, 1_000_000] {
        let error = refused(&world, "query.service.orders", vec![b' '; size], TooLarge).await;
        assert_eq!((error.field.as_str(), error.value.as_str()), ("request", size.to_string().as_str()));
        assert!(error.help.contains("65536"), "{error:?}");
    }
    assert!(world.ask("query.service.orders", vec![b' '; 64 * 1024]).await.is_ok());
}

#[tokio::test]
async fn subjects_that_are_no_questions_are_bad_requests_or_nobodys() {
    let world = world_with_an_instance().await;
    for what in ["query.service.user%2erpc", "query.service.-", "query.instance.orders.%FF", "query.next.r1.%2D1"] {
        let error = refused(&world, what, "", BadRequest).await;
        assert_eq!((error.field, error.value), ("subject".to_owned(), format!("muster.default.{what}")));
    }
    let too_long = format!("query.service.{}", "x".repeat(129));
    assert!(refused(&world, &too_long, "", BadRequest).await.message.contains("128"));
    for what in ["query.everything", "query.service", "query.service.a.b", "query.services.x"] {
        let asked = world.client.request(format!("muster.default.{what}"), "".into()).await;
        let error = asked.expect_err("nobody answers");
        assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "{what}");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_no_longer_there_have_codes_of_their_own() {
    let world = world_with_an_instance().await;
    let error = refused(&world, "query.instance.orders.nobody", "", NotFound).await;
    assert_eq!((error.field.as_str(), error.value.as_str()), ("instance", "orders/nobody"));
    for cursor in ["9999", "not-a-number", "0000000000000000-1", "0"] {
        refused(&world, &format!("query.next.r1.{cursor}"), "", CursorExpired).await;
    }
    let unreached = json!({ "min_revision": [null, 9_007_199_254_740_991_u64] }).to_string();
    let error = refused(&world, "query.service.orders", unreached, Behind).await;
    assert_eq!(error.field, "min_revision");
    let unreached = json!({ "min_revision": ["7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 1] }).to_string();
    refused(&world, "query.services", unreached, Behind).await;
}

/// Whoever asks chooses where the answer goes: not just anywhere.
#[tokio::test]
async fn answers_go_to_inboxes_only_and_a_flood_of_others_is_one_line() {
    let world = world_with_an_instance().await;
    let before = world.registry.lines().len();
    let stream = world.last_sequence().await;
    let mut elsewhere = world.client.subscribe("elsewhere.>").await.expect("subscribed");
    for number in 0..1_000 {
        for reply in [
            format!("elsewhere.{number}"),
            "muster.default.event.register.orders.x.web1".to_owned(),
            "_INBOXES.a".to_owned(),
            "muster.default.query.services".to_owned(),
        ] {
            let subject = "muster.default.query.service.orders";
            world.client.publish_with_reply(subject, reply, "".into()).await.expect("sent");
        }
        world.client.publish("muster.default.query.service.orders", "".into()).await.expect("sent");
    }
    // Answers come in the order of the questions: once this one is there, all others have been looked at.
    assert!(world.ask("query.service.orders", "").await.is_ok());
    let heard = tokio::time::timeout(Duration::from_millis(100), elsewhere.next()).await;
    assert!(heard.is_err(), "{heard:?}");
    assert_eq!(world.last_sequence().await, stream);
    let line = world.registry.wait_for_line("below none of --reply-prefix", SOON).await;
    assert!(line.text.contains("_INBOX"), "{}", line.text);
    let lines = world.registry.lines().split_off(before);
    assert!(lines.len() <= 2, "{}", texts(&lines));
}
