//! The control thread's side of the server: sessions over the unix socket, tenants, who is
//! admitted.

pub(crate) mod handshake;
pub(crate) mod random;
pub(crate) mod registry;
pub(crate) mod tenants;
pub(crate) mod unix;
