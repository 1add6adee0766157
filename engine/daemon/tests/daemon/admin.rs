//! The admin endpoints over a node that is made up.

use std::sync::Arc;
use std::time::Duration;

use chariotd::control::{Admin, CONNECTIONS_MAX, serve};
use chariotd::operate::Token;
use chariotd::seam::{
    Drained, Expulsion, NodeControl, NodeStats, Pending, Readiness, SessionSummary, ShardStats,
};
use chariotd::settings::document::InForce;
use chariotd::settings::{Source, find};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A node that answers at once, or never.
#[derive(Default)]
struct Fake {
    reasons: Vec<String>,
    silent: bool,
}

impl NodeControl for Fake {
    fn stats(&self) -> Pending<NodeStats> {
        if self.silent {
            return Box::pin(std::future::pending());
        }
        let shard = ShardStats {
            hits: 41,
            ..ShardStats::default()
        };
        let stats = NodeStats {
            shards: vec![Some(shard), None],
            ..NodeStats::default()
        };
        Box::pin(std::future::ready(stats))
    }

    fn sessions(&self) -> Pending<Vec<SessionSummary>> {
        let session = SessionSummary {
            id: 7,
            pid: 8,
            ..SessionSummary::default()
        };
        Box::pin(std::future::ready(vec![session]))
    }

    fn expel(&self, session: u64, kill: bool) -> Pending<Expulsion> {
        let expulsion = match session {
            7 => Expulsion::Expelled {
                pid: 8,
                killed: kill,
            },
            8 => Expulsion::NotKilled { pid: 9 },
            9 => Expulsion::Remote,
            _ => Expulsion::Unknown,
        };
        Box::pin(std::future::ready(expulsion))
    }

    fn ready(&self) -> Readiness {
        Readiness {
            reasons: self.reasons.clone(),
            degraded: Vec::new(),
        }
    }

    fn drain(&self, _deadline: Duration) -> Pending<Drained> {
        Box::pin(std::future::ready(Drained::default()))
    }
}

/// Serves `node` and hands the address to `body`.
fn with_admin<F: Future<Output = ()>>(node: Fake, body: impl FnOnce(std::net::SocketAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let in_force = vec![InForce {
            setting: find("memory").unwrap(),
            text: Some("1GiB".to_owned()),
            source: Source::File,
        }];
        let admin = Admin {
            standing: Arc::default(),
            base_private_bytes: 0,
            node: Arc::new(node),
            token: Token::known("secret"),
            address: address.ip(),
            in_force,
            shard_count: 2,
            start_unix_s: 5,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Arc::new(admin), async {
            stopped.await.unwrap();
        }));
        body(address).await;
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    });
}

/// One request on a connection of its own: the status line, headers and body.
async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// One order, with a header of its own.
async fn order(address: std::net::SocketAddr, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: 0\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn an_order_to_expel_takes_the_token_and_says_what_became_of_it() {
    with_admin(Fake::default(), async |address| {
        let token = "Authorization: Bearer secret\r\n";
        let path = "/sessions/7/expel";
        for wrong in ["", "Authorization: Bearer sekret\r\n"] {
            let answer = order(address, path, wrong).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{wrong}: {answer}");
        }
        let answer = order(address, path, token).await;
        assert!(answer.contains("\"killed\":false"), "{answer}");
        let answer = order(address, "/sessions/7/expel?kill=true", token).await;
        assert!(answer.contains("\"killed\":true"), "{answer}");
        let wrong = [
            ("/sessions/8/expel?kill=true", "403"),
            ("/sessions/9/expel", "409"),
            ("/sessions/10/expel", "404"),
            ("/sessions/x/expel", "400"),
            ("/sessions/7/expel?kil=true", "400"),
        ];
        for (path, status) in wrong {
            let answer = order(address, path, token).await;
            assert!(answer.contains(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        // A browser that follows a link orders nothing.
        let answer = ask(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    });
}

#[test]
fn every_endpoint_answers() {
    with_admin(Fake::default(), async |address| {
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        assert!(metrics.contains("text/plain; version=0.0.4"));
        assert!(metrics.contains("chariot_hits_total{shard=\"0\"} 41\n"));
        assert!(metrics.contains("chariot_shard_up{shard=\"1\"} 0\n"));
        assert!(metrics.contains("chariot_ready 1\n"));
        assert!(metrics.contains("chariot_process_start_time_seconds 5\n"));
        assert!(ask(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(ask(address, "/readyz").await.ends_with("\r\n\r\nready\n"));
        let config = ask(address, "/config").await;
        let body: serde_json::Value =
            serde_json::from_str(config.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["settings"][0]["name"], "memory");
        assert_eq!(body["settings"][0]["value"], "1GiB");
        assert_eq!(body["settings"][0]["source"], "file");
        let sessions = ask(address, "/sessions").await;
        assert!(
            sessions.contains("\"id\":7") && sessions.contains("\"pid\":8"),
            "{sessions}"
        );
    });
}

#[test]
fn an_unready_node_says_why() {
    let node = Fake {
        reasons: vec!["draining".to_owned()],
        silent: false,
    };
    with_admin(node, async |address| {
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
    });
}

#[test]
fn another_path_is_told_the_right_ones() {
    with_admin(Fake::default(), async |address| {
        let answer = ask(address, "/metric").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("/metrics"),
            "{answer}"
        );
    });
}

#[test]
fn silent_shards_do_not_hold_the_answer_back() {
    let node = Fake {
        reasons: Vec::new(),
        silent: true,
    };
    with_admin(node, async |address| {
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains("chariot_shard_up{shard=\"0\"} 0\n"));
        assert!(!metrics.contains("chariot_hits_total{"));
    });
}

#[test]
fn idle_connections_are_bounded_and_give_their_slot_back() {
    with_admin(Fake::default(), async |address| {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        // All slots are taken: one more waits in the backlog until one is given back.
        let waiting = ask(address, "/healthz");
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
        early.unwrap_err();
        drop(idle.pop());
        assert!(waiting.await.ends_with("ok\n"));
    });
}

#[test]
fn garbage_gets_a_refusal_and_harms_nobody() {
    with_admin(Fake::default(), async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[0xff; 4_096]).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        drop(stream.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        assert!(ask(address, "/healthz").await.ends_with("ok\n"));
    });
}
