//! Sessions, connections, dispatch, one handler per opcode, reply.
//!
//! Reading order: [`seam`] (what the daemon gives and asks), `node.rs` and `node/start.rs` (a
//! start), then the path of a request as `engine/ARCHITECTURE.md` §2 tells it: `session.rs`,
//! `pass.rs`, `dispatch.rs`, `handlers/`, `tenant.rs`, `reply.rs`; for remote clients `tcp/`.
#![forbid(unsafe_code)]

pub mod seam;

mod call;
mod control;
mod devices;
mod dispatch;
mod granules;
mod handlers;
mod limits;
mod mail;
mod message;
mod metadata;
mod node;
mod objects;
mod pass;
mod reply;
mod request;
mod session;
mod shard;
mod tcp;
mod tenant;
mod tickets;
mod tier;
mod waiting;
mod watching;

pub use node::Node;
pub use node::ssd::{SsdDevice, SsdExamination, examine_ssd};
