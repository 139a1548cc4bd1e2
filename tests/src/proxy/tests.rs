//! Each fault does what it says to one connection, and healing undoes it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::*;

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(100);

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn connected() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut stream).await.unwrap(), *b"ping");
    (proxy, stream)
}

async fn round_trip(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
    stream.write_all(b"ping").await?;
    answer(stream).await
}

async fn answer(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[tokio::test]
async fn a_cut_link_closes_old_and_new_connections_and_a_healed_one_accepts() {
    let (proxy, mut old) = connected().await;
    proxy.cut();
    assert!(timeout(SOON, answer(&mut old)).await.expect("the old connection is closed").is_err());
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(SOON, round_trip(&mut new)).await.expect("the new connection is closed").is_err());
    proxy.heal();
    let mut healed = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(timeout(SOON, round_trip(&mut healed)).await.unwrap().unwrap(), *b"ping");
}

#[tokio::test]
async fn a_black_hole_is_silent_and_what_was_sent_arrives_when_it_heals() {
    let (proxy, mut stream) = connected().await;
    proxy.black_hole();
    assert!(timeout(A_WHILE, round_trip(&mut stream)).await.is_err(), "a black hole answered");
    proxy.heal();
    assert_eq!(timeout(SOON, answer(&mut stream)).await.unwrap().unwrap(), *b"ping");
}

#[tokio::test]
async fn one_direction_can_be_held_alone() {
    let (proxy, mut stream) = connected().await;
    proxy.set(Direction::FromTarget, Flow::Held);
    assert!(timeout(A_WHILE, round_trip(&mut stream)).await.is_err(), "a deaf link answered");
    proxy.set(Direction::FromTarget, Flow::Open);
    assert_eq!(timeout(SOON, answer(&mut stream)).await.unwrap().unwrap(), *b"ping");
}

#[tokio::test]
async fn a_delay_holds_each_byte_in_both_directions() {
    let (proxy, mut stream) = connected().await;
    proxy.delay(Duration::from_millis(50));
    let start = Instant::now();
    timeout(SOON, round_trip(&mut stream)).await.unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100), "a round trip took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_connections() {
    let (proxy, mut stream) = connected().await;
    drop(proxy);
    assert!(timeout(SOON, answer(&mut stream)).await.expect("the connection is closed").is_err());
}

#[tokio::test]
async fn a_nats_client_works_through_it() {
    let server = crate::NatsServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let client = async_nats::connect(proxy.url()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.server_info().port, server.port());
}

#[tokio::test]
async fn connections_of_one_name_are_held_and_cut_alone() {
    let proxy = Proxy::start(echo().await).await;
    let mut streams = Vec::new();
    for name in ["some registry output", "some registry log"] {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let hello = format!("CONNECT {{\"verbose\":false,\"name\":\"{name}\"}}\r\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut back = vec![0; hello.len()];
        stream.read_exact(&mut back).await.unwrap();
        streams.push(stream);
    }
    proxy.set_named("output", Flow::Held, Flow::Open);
    assert!(timeout(A_WHILE, round_trip(&mut streams[0])).await.is_err(), "the named one is held");
    assert_eq!(timeout(SOON, round_trip(&mut streams[1])).await.unwrap().unwrap(), *b"ping");
    proxy.heal();
    assert_eq!(timeout(SOON, answer(&mut streams[0])).await.unwrap().unwrap(), *b"ping");
    proxy.cut_named("output");
    assert!(timeout(SOON, answer(&mut streams[0])).await.expect("the named one is closed").is_err());
    assert_eq!(timeout(SOON, round_trip(&mut streams[1])).await.unwrap().unwrap(), *b"ping");
}

#[tokio::test]
async fn a_cut_that_is_healed_at_once_has_closed_what_was_open() {
    let (proxy, mut stream) = connected().await;
    proxy.cut();
    proxy.heal();
    assert!(timeout(SOON, answer(&mut stream)).await.expect("the old connection is closed").is_err());
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(timeout(SOON, round_trip(&mut new)).await.unwrap().unwrap(), *b"ping");
}
