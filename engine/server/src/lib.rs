//! Sessions, connections, dispatch, one handler per opcode, reply.
//!
//! Reading order: [`seam`] (what the daemon gives and asks), then the path of a request as
//! `engine/ARCHITECTURE.md` §2 tells it.
#![forbid(unsafe_code)]

pub mod seam;
