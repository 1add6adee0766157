//! Sockets on the data ring: bytes from and into mapped memory, short pieces, ends and refusals.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module"
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use chariot_shard::{IoFd, OutOfBounds, Piece, RingError};
use support::{Mapped, bytes_of, fill, on_shard, pattern, seat};

const MIB: usize = 1 << 20;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_mebibyte_echoes_through_mapped_memory_byte_for_byte() {
    const ROUNDS: u64 = 24;
    let (listener, address) = listener();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut back = vec![0; MIB];
        for round in 1..=ROUNDS {
            let sent = pattern(round * 7919, MIB);
            // In two pieces, so that the shard's receive meets a short one.
            stream.write_all(&sent[..3]).unwrap();
            stream.write_all(&sent[3..]).unwrap();
            stream.read_exact(&mut back).unwrap();
            assert!(back == sent, "round {round} came back changed");
        }
    });
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(2 * MIB);
        let socket = ring.accept(&IoFd::new(listener)).await.unwrap();
        socket.set_nodelay().unwrap();
        for round in 0..ROUNDS {
            let span = memory.span((round % 2) * MIB as u64, MIB as u64);
            ring.recv_exact(&socket, span.clone()).await.unwrap();
            ring.send_all(&socket, span).await.unwrap();
        }
        let end = ring.recv_some(&socket, memory.span(0, 16)).await;
        assert_eq!(end, Ok(0), "the client has closed");
        assert!(ring.stats().enters > 0);
    });
    client.join().unwrap();
}

#[test]
fn a_gathered_send_joins_private_and_shared_pieces_in_order() {
    let (listener, address) = listener();
    let header = pattern(3, 64);
    let payload = pattern(5, 3 * MIB + 17);
    let whole: Vec<u8> = [&header[..], &payload[..], b"end"].concat();
    let client = std::thread::spawn(move || {
        let mut received = Vec::new();
        TcpStream::connect(address)
            .unwrap()
            .read_to_end(&mut received)
            .unwrap();
        received
    });
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(4 * MIB);
        let span = memory.span(4096, payload.len() as u64);
        fill(&span, &payload);
        let socket = ring.accept(&IoFd::new(listener)).await.unwrap();
        let pieces = vec![
            Piece::Bytes(header),
            Piece::Bytes(Vec::new()),
            Piece::Span(span),
            Piece::Bytes(b"end".to_vec()),
        ];
        ring.send_gather(&socket, pieces).await.unwrap();
        ring.send_gather(&socket, Vec::new()).await.unwrap();
    });
    assert!(client.join().unwrap() == whole, "the pieces came in order");
}

#[test]
fn two_shards_talk_through_connect_and_private_buffers() {
    let (listener, address) = listener();
    let far = std::thread::spawn(move || {
        on_shard(seat(0), move |context| async move {
            let ring = context.ring();
            let socket = ring.accept(&IoFd::new(listener)).await.unwrap();
            let (result, header) = ring.recv_exact_bytes(&socket, vec![0; 64], 0).await;
            result.unwrap();
            let (result, _) = ring.send_all_bytes(&socket, header).await;
            result.unwrap();
        });
    });
    let (sent, back) = on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let socket = ring.connect(address).await.unwrap();
        let (result, sent) = ring.send_all_bytes(&socket, pattern(11, 64)).await;
        result.unwrap();
        let mut back = vec![0; 64];
        let mut received = 0;
        while received < back.len() {
            let (count, buffer) = ring.recv_some_bytes(&socket, back, received).await;
            back = buffer;
            received += count.unwrap();
        }
        (sent, back)
    });
    far.join().unwrap();
    assert_eq!(sent, back);
}

#[test]
fn an_early_end_says_how_much_had_come() {
    let (listener, address) = listener();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[7; 10]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(4096);
        let socket = ring.accept(&IoFd::new(listener)).await.unwrap();
        let span = memory.span(0, 64);
        let early = RingError::EndOfStream {
            received: 10,
            wanted: 64,
        };
        assert_eq!(ring.recv_exact(&socket, span.clone()).await, Err(early));
        assert_eq!(bytes_of(&span)[..10], [7; 10]);
    });
    client.join().unwrap();
}

#[test]
fn a_closed_peer_fails_the_send_without_a_signal() {
    let (listener, address) = listener();
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let socket = ring.connect(address).await.unwrap();
        drop(ring.accept(&IoFd::new(listener)).await.unwrap());
        let mut outcome = Ok(());
        for _ in 0..100 {
            outcome = ring.send_all_bytes(&socket, vec![0; MIB]).await.0;
            if outcome.is_err() {
                break;
            }
        }
        assert!(
            matches!(
                outcome,
                Err(RingError::Failed {
                    errno: libc::EPIPE | libc::ECONNRESET,
                    ..
                })
            ),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_refused_connect_names_the_operation_and_the_reason() {
    let (listener, address) = listener();
    drop(listener);
    on_shard(seat(0), move |context| async move {
        let refused = context.ring().connect(address).await.unwrap_err();
        assert_eq!(
            refused,
            RingError::Failed {
                operation: "connect",
                errno: libc::ECONNREFUSED
            }
        );
        assert!(
            refused.to_string().starts_with("connect failed: "),
            "{refused}"
        );
    });
}

#[test]
fn a_span_outside_of_its_memory_is_refused() {
    let memory = Mapped::new(4096);
    let refused = |offset, len| {
        let whole = memory.span(0, 4096);
        let mapping: Rc<dyn chariot_shard::StableMemory> = Rc::new(memory.mapping());
        drop(whole);
        chariot_shard::IoSpan::new(mapping, offset, len).unwrap_err()
    };
    assert_eq!(
        refused(4097, 0),
        OutOfBounds {
            offset: 4097,
            len: 0,
            size: 4096
        }
    );
    assert_eq!(
        refused(0, 4097),
        OutOfBounds {
            offset: 0,
            len: 4097,
            size: 4096
        }
    );
    assert_eq!(
        refused(1, u64::MAX),
        OutOfBounds {
            offset: 1,
            len: u64::MAX,
            size: 4096
        }
    );
    assert!(memory.span(4096, 0).is_empty());
}
