//! One handler per operation of a local session, one file each, and `calls` for connections of
//! other shards.

pub(crate) mod calls;
pub(crate) mod cancel;
pub(crate) mod delete;
pub(crate) mod exist;
pub(crate) mod expire;
pub(crate) mod get;
pub(crate) mod lease_grant;
pub(crate) mod lease_return;
pub(crate) mod multi_set_tx;
pub(crate) mod object_bind;
pub(crate) mod object_calls;
pub(crate) mod object_latch;
pub(crate) mod object_nest;
pub(crate) mod object_ref;
pub(crate) mod publish;
pub(crate) mod set_inline;
pub(crate) mod size;
pub(crate) mod staged_publish;
pub(crate) mod wait;
