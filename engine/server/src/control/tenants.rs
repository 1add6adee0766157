//! Tenants and their memory files, made at first use.
//!
//! Lives on: control thread. A tenant is a name, a number, a secret for key hashes, one arena and
//! one index per shard. Making them creates and maps files, which blocks for microseconds to
//! milliseconds; that is why it happens here. Every shard has acknowledged a tenant before a
//! session of it is welcomed.
//!
//! Bound: `chariot_base::limits::TENANTS_MAX` tenants.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use chariot_base::TenantId;
use chariot_base::limits::TENANTS_MAX;
use chariot_memory::{ArenaMemory, ArenaOptions};
use chariot_proto::KeySecret;
use chariot_shm::index::{IndexMemory, IndexOptions};
use chariot_shm::{Memfd, MemfdOptions};

use crate::message::TenantParts;

/// A tenant as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Its number on this node.
    pub(crate) id: TenantId,
    /// Its name.
    pub(crate) name: String,
    /// Secret of its key hashes; given to its own sessions only.
    pub(crate) secret: KeySecret,
    /// Its arena.
    pub(crate) arena: Arc<ArenaMemory>,
    /// Read-only descriptors of its indexes, by shard.
    pub(crate) indexes: Vec<OwnedFd>,
    /// Bytes of each index file (virtual).
    pub(crate) index_len: u64,
}

/// What one tenant's memory looks like on this node.
#[derive(Debug, Clone)]
pub(crate) struct TenantShape {
    /// Granules of the tenant's arena, virtual.
    pub(crate) virtual_granules: u32,
    /// Back it with hugetlb pages.
    pub(crate) hugepages: bool,
    /// From which key secrets are derived, so that they stay the same; random without it.
    pub(crate) secret: Option<[u8; 32]>,
    /// Shards of the node.
    pub(crate) shard_count: u16,
    /// Shape of one index; shard and tenant are filled in.
    pub(crate) index_options: IndexOptions,
}

/// All tenants.
#[derive(Debug)]
pub(crate) struct Tenants {
    shape: TenantShape,
    by_name: HashMap<String, Arc<Tenant>>,
}

/// Why a tenant could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TenantError {
    /// The table is full.
    #[error("this node has its {TENANTS_MAX} tenants already; use another node")]
    TooMany,
    /// The kernel refused memory files or mappings.
    #[error(
        "memory of the tenant could not be made: {0}; raise RLIMIT_NOFILE or the container's memory"
    )]
    Kernel(#[from] io::Error),
    /// The kernel refused an index.
    #[error(
        "an index of the tenant could not be made: {0}; \
         raise RLIMIT_NOFILE or the container's memory"
    )]
    Index(#[from] chariot_shm::index::IndexMemoryError),
}

impl Tenants {
    /// Makes an empty table.
    pub(crate) fn new(shape: TenantShape) -> Self {
        Self {
            shape,
            by_name: HashMap::new(),
        }
    }

    /// Returns a tenant that exists.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Tenant>> {
        self.by_name.get(name).cloned()
    }

    /// Makes a tenant; the parts go to the shards, one each, before it is used.
    pub(crate) fn make(
        &mut self,
        name: &str,
    ) -> Result<(Arc<Tenant>, Vec<TenantParts>), TenantError> {
        assert!(!self.by_name.contains_key(name));
        if self.by_name.len() >= TENANTS_MAX {
            return Err(TenantError::TooMany);
        }
        let id = TenantId(u16::try_from(self.by_name.len()).expect("bounded by TENANTS_MAX"));
        let options = ArenaOptions {
            virtual_granules: self.shape.virtual_granules,
            hugetlb: self.shape.hugepages,
        };
        let arena = Arc::new(ArenaMemory::create("chariot-arena", options)?);
        let secret = match &self.shape.secret {
            Some(secret) => crate::node::ssd::tenant_secret(secret, name),
            None => KeySecret(super::random::bytes()?),
        };
        let mut indexes = Vec::new();
        let mut parts = Vec::new();
        let index_len = self.shape.index_options.memory_size_bytes();
        for shard in 0..self.shape.shard_count {
            let index_options = IndexOptions {
                shard,
                tenant: id.0,
                ..self.shape.index_options
            };
            let file = Memfd::create("chariot-index", index_len, MemfdOptions::default())?;
            indexes.push(file.read_only()?);
            let index = IndexMemory::shared(&file)?;
            parts.push(TenantParts {
                tenant: id,
                arena: Arc::clone(&arena),
                index,
                index_options,
                secret,
            });
        }
        let tenant = Arc::new(Tenant {
            id,
            name: name.to_owned(),
            secret,
            arena,
            indexes,
            index_len,
        });
        self.by_name.insert(name.to_owned(), Arc::clone(&tenant));
        Ok((tenant, parts))
    }
}
