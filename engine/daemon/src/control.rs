//! The admin endpoints: HTTP on the control thread, never on a shard.
//!
//! `/metrics` asks every shard by message and gives up on the silent ones; `/healthz` says that
//! this thread turns; `/readyz` says whether the node takes work, and if not, why; `/config` and
//! `/sessions` are JSON for operators. At most [`CONNECTIONS_MAX`] connections are open; further
//! ones wait in the kernel's backlog.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::{self, ProcessFacts, Snapshot};
use crate::seam::{NodeControl, NodeStats, SessionSummary};
use crate::settings::document::InForce;

/// Open admin connections: a scraper, a few people, and room.
pub const CONNECTIONS_MAX: usize = 64;

/// How long an endpoint waits for the shards before it answers without them.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the endpoints need.
pub struct Admin {
    /// The node.
    pub node: Arc<dyn NodeControl>,
    /// Settings in force.
    pub in_force: Vec<InForce>,
    /// Shards configured.
    pub shard_count: usize,
    /// Private bytes of the process when it began to serve.
    pub base_private_bytes: u64,
    /// Start of the daemon in seconds since 1970.
    pub start_unix_s: u64,
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
    axum::serve(listener, router(admin))
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
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
        .with_state(admin)
}

/// Told to whoever asks for another path.
const PATHS: &str = "not here; try /metrics /healthz /readyz /config /sessions\n";

async fn answer_metrics(State(admin): State<Arc<Admin>>) -> Response {
    let node = tokio::time::timeout(ANSWER_WITHIN, admin.node.stats()).await;
    let snapshot = Snapshot {
        // Silent shards show as chariot_shard_up 0.
        node: node.unwrap_or_else(|_elapsed| NodeStats::default()),
        process: ProcessFacts::read(Path::new("/proc/self"), admin.start_unix_s),
        base_private_bytes: admin.base_private_bytes,
        shard_count: admin.shard_count,
        ready: admin.node.ready().is_ready(),
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
        return "ready\n".into_response();
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
        "lease_bytes": session.lease_bytes,
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
