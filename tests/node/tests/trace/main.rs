//! Recency over the lossy ring of notes: hits by the index keep the policies as good as hits that
//! the shard serves itself.
//!
//! `tier.rs`: an arena over an SSD tier that holds everything hits as an arena that does.
//!
//! The recorded trace that `CHARIOT_TRACE` names is replayed with reads through the index and with
//! every read through the shard, under each eviction policy: a twelfth of it with an eighth of the
//! blocks of the canonical workload (64 KiB in 2 GiB), or all of it among the long tests.
#![forbid(unsafe_code)]

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tier;
