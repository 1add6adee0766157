//! The admin endpoints: HTTP on the control thread, never on a shard.
//!
//! `/metrics` asks every shard by message and gives up on the silent ones; `/healthz` says that
//! this thread turns; `/readyz` says whether the node takes work, and if not, why; `/config` and
//! `/sessions` are JSON for operators. `POST /sessions/ID/expel` (with `?kill=true`) turns a local
//! session away; it takes the token that lies beside the socket, and a caller on this host. At most
//! [`CONNECTIONS_MAX`] connections are open; further ones wait in the kernel's backlog.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::membership::Standing;
use crate::metrics::{self, ProcessFacts, Snapshot};
use crate::operate::Token;
use crate::seam::{Expulsion, NodeControl, NodeStats, SessionSummary};
use crate::settings::document::InForce;

/// Open admin connections: a scraper, a few people, and room.
pub const CONNECTIONS_MAX: usize = 64;

/// How long an endpoint waits for the shards before it answers without them.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the endpoints need.
pub struct Admin {
    /// The node.
    pub node: Arc<dyn NodeControl>,
    /// What orders carry.
    pub token: Token,
    /// Where the endpoints listen: a caller from there is on this host.
    pub address: IpAddr,
    /// Settings in force.
    pub in_force: Vec<InForce>,
    /// Shards configured.
    pub shard_count: usize,
    /// Private bytes of the process when it began to serve.
    pub base_private_bytes: u64,
    /// Start of the daemon in seconds since 1970.
    pub start_unix_s: u64,
    /// How the membership stands.
    pub standing: Arc<Standing>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("shard_count", &self.shard_count)
            .finish_non_exhaustive()
    }
}

/// Serves until `stop` completes.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = Bounded {
        listener,
        slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    let service = router(admin).into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(answer_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(answer_ready))
        .route("/config", get(answer_config))
        .route("/sessions", get(answer_sessions))
        .route("/sessions/{id}/expel", post(expel_session))
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
        .with_state(admin)
}

/// Told to whoever asks for another path.
const PATHS: &str = "not here; try /metrics /healthz /readyz /config /sessions\n";

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Caller(SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// How to expel.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpelQuery {
    /// End the process as well.
    #[serde(default)]
    kill: bool,
}

async fn expel_session(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(Caller(caller)): ConnectInfo<Caller>,
    UrlPath(session): UrlPath<u64>,
    Query(ExpelQuery { kill }): Query<ExpelQuery>,
    headers: HeaderMap,
) -> Response {
    // The token travels in the clear: it is of no use from another host.
    if !caller.ip().to_canonical().is_loopback() && caller.ip() != admin.address {
        return (
            StatusCode::FORBIDDEN,
            "orders are taken on this host only\n",
        )
            .into_response();
    }
    let shown = headers
        .get(header::AUTHORIZATION)
        .map(|shown| shown.to_str());
    if !matches!(shown, Some(Ok(shown)) if admin.token.admits(shown)) {
        let text = "send Authorization: Bearer, with what the file SOCKET.admin says\n";
        return (StatusCode::UNAUTHORIZED, text).into_response();
    }
    match admin.node.expel(session, kill).await {
        Expulsion::Expelled { pid, killed } => Json(serde_json::json!({
            "session": session,
            "pid": pid,
            "expelled": true,
            "killed": killed,
        }))
        .into_response(),
        Expulsion::NotKilled { pid } => {
            let text = format!("expelled, but this daemon may not signal process {pid}\n");
            (StatusCode::FORBIDDEN, text).into_response()
        },
        Expulsion::Unknown => {
            (StatusCode::NOT_FOUND, "no session has that number\n").into_response()
        },
        Expulsion::Remote => {
            let text = "a session over TCP holds no memory here: it ends with its connection\n";
            (StatusCode::CONFLICT, text).into_response()
        },
    }
}

async fn answer_metrics(State(admin): State<Arc<Admin>>) -> Response {
    let node = tokio::time::timeout(ANSWER_WITHIN, admin.node.stats()).await;
    let snapshot = Snapshot {
        // Silent shards show as chariot_shard_up 0.
        node: node.unwrap_or_else(|_elapsed| NodeStats::default()),
        process: ProcessFacts::read(Path::new("/proc/self"), admin.start_unix_s),
        base_private_bytes: admin.base_private_bytes,
        shard_count: admin.shard_count,
        ready: admin.node.ready().is_ready(),
        registered: admin.standing.is_registered(),
        registrations: admin.standing.registrations(),
        build: crate::build::BUILD,
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        metrics::render(&snapshot),
    )
        .into_response()
}

async fn answer_ready(State(admin): State<Arc<Admin>>) -> Response {
    let readiness = admin.node.ready();
    if readiness.is_ready() {
        let degraded = readiness.degraded.iter().map(|what| format!("{what}\n"));
        return format!("ready\n{}", degraded.collect::<String>()).into_response();
    }
    let reasons = readiness.reasons.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response()
}

async fn answer_config(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    let settings = admin.in_force.iter().map(|held| {
        serde_json::json!({
            "name": held.setting.name,
            "value": held.text,
            "source": held.source.to_string(),
        })
    });
    Json(serde_json::json!({
        "version": crate::build::BUILD.version,
        "commit": crate::build::BUILD.commit,
        "settings": settings.collect::<Vec<_>>(),
    }))
}

async fn answer_sessions(State(admin): State<Arc<Admin>>) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, admin.node.sessions()).await {
        Ok(sessions) => Json(sessions.iter().map(session_json).collect::<Vec<_>>()).into_response(),
        Err(_elapsed) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the node did not answer in time\n",
        )
            .into_response(),
    }
}

fn session_json(session: &SessionSummary) -> serde_json::Value {
    serde_json::json!({
        "id": session.id,
        "transport": session.transport,
        "pid": session.pid,
        "uid": session.uid,
        "peer": session.peer,
        "tenant": session.tenant,
        "trusted": session.trusted,
        "expelled": session.expelled,
        "age_s": session.age_s,
        "in_flight": session.in_flight,
        "pins": session.pins,
        "leases": session.leases,
        "lease_bytes": session.lease_bytes,
        "quarantine_bytes": session.quarantine_bytes,
    })
}

/// A listener that accepts only while a slot is free.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("never closed");
        // The trait's own implementation retries with a pause when descriptors run out.
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        (
            Held {
                stream,
                _slot: slot,
            },
            address,
        )
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its slot back when it ends.
struct Held {
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
