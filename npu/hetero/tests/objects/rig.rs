//! What the tests share: a daemon, a client, objects whose bytes tell who they are.

use std::sync::Arc;
use std::time::Duration;

use chariot_client::{Client, SetOptions};
use chariot_device::{
    CopyBatch, Device, DeviceMemory, Direction, Host, HostMemory, HostOptions, Runtime,
};
use chariot_hetero::{Accelerators, Blob, BlobList, HeteroClient, Stored};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, with_timeout};
use chariot_tests_node::wait;
use chariot_transfer::{Calibration, CallCost, CoreOptions, CostModel};

/// A model in which a batch is cheap; nobody measures a busy machine here.
pub(crate) fn options() -> CoreOptions {
    let call = |fixed_ns, entry_ns| CallCost { fixed_ns, entry_ns };
    CoreOptions {
        calibration: Calibration::Fixed(CostModel {
            bytes_per_ns: [30.0, 30.0],
            each: call(5_000.0, 5_000.0),
            queued: Some(call(6_000.0, 500.0)),
            direct: None,
            local: call(6_000.0, 2_000.0),
            local_bytes_per_ns: 500.0,
        }),
        ..CoreOptions::default()
    }
}

pub(crate) fn host() -> Runtime {
    Host::start(HostOptions {
        devices: 2,
        device_bytes: 1 << 30,
        ..HostOptions::default()
    })
}

/// A small daemon, all of whose memory is there.
pub(crate) fn start() -> Daemon {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: 128,
        ..DaemonOptions::default()
    });
    let all = f64::from(128 << 20);
    wait::within(Duration::from_mins(2), "the arena is populated", || {
        daemon.metrics().total("chariot_populated_bytes") >= all
    });
    daemon
}

/// A session whose calls are patient with a busy machine.
pub(crate) fn connect(daemon: &Daemon) -> Client {
    let options = with_timeout(daemon.local_options(), Duration::from_mins(1));
    Client::connect(options).unwrap()
}

/// A client of a daemon with cards of `runtime`.
pub(crate) struct Rig {
    pub(crate) hetero: HeteroClient,
    pub(crate) card: Device,
}

impl Rig {
    pub(crate) fn over(client: Client, runtime: Runtime) -> Self {
        let accelerators = Accelerators::of(runtime, options());
        let card = accelerators.card(0).unwrap();
        let hetero = HeteroClient::new(client, &accelerators).unwrap();
        Self { hetero, card }
    }

    pub(crate) fn on_host(daemon: &Daemon) -> Self {
        Self::over(connect(daemon), host())
    }

    /// A list of blobs of these lengths, each in memory of its own, filled from `seed`.
    pub(crate) fn filled(&self, lens: &[usize], seed: u64) -> BlobList {
        let list = self.empty(lens);
        for (number, blob) in list.blobs().iter().enumerate() {
            write(&self.card, &blob.memory, &pattern(seed, number, blob.len));
        }
        list
    }

    pub(crate) fn empty(&self, lens: &[usize]) -> BlobList {
        empty(&self.card, lens)
    }

    /// Writes one object, which must not exist.
    #[track_caller]
    pub(crate) fn set(&self, key: &[u8], list: &BlobList) {
        let lists = std::slice::from_ref(list);
        let out = self
            .hetero
            .mset_d2h(&[key], lists, &SetOptions::default())
            .unwrap();
        assert_eq!(out[0].as_ref().unwrap(), &Stored::Written);
    }

    /// Asserts that the card holds what [`Self::filled`] wrote elsewhere.
    #[track_caller]
    pub(crate) fn check(&self, list: &BlobList, seed: u64) {
        for (number, blob) in list.blobs().iter().enumerate() {
            let found = read(&self.card, &blob.memory);
            assert!(
                found == pattern(seed, number, blob.len),
                "blob {number} of object {seed}"
            );
        }
    }
}

pub(crate) fn empty(card: &Device, lens: &[usize]) -> BlobList {
    let blob = |len: &usize| Blob {
        memory: card.alloc(*len).unwrap(),
        at: 0,
        len: *len,
    };
    BlobList::new(card.clone(), lens.iter().map(blob).collect()).unwrap()
}

/// Bytes that tell object, blob and place.
pub(crate) fn pattern(seed: u64, blob: usize, len: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((blob as u64) << 32);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        bytes.extend(state.rotate_left(23).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn write(card: &Device, memory: &DeviceMemory, bytes: &[u8]) {
    let host = HostMemory::pageable(bytes.to_vec());
    let mut batch = CopyBatch::new(Direction::HostToDevice);
    batch.push((memory, 0), (&host, 0), bytes.len()).unwrap();
    card.copy_now(batch).unwrap();
}

pub(crate) fn read(card: &Device, memory: &DeviceMemory) -> Vec<u8> {
    let host = HostMemory::pageable(vec![0; memory.len()]);
    let mut batch = CopyBatch::new(Direction::DeviceToHost);
    batch.push((memory, 0), (&host, 0), memory.len()).unwrap();
    card.copy_now(batch).unwrap();
    let mut bytes = vec![0; memory.len()];
    host.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Keys as calls take them.
pub(crate) fn borrow(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

/// Something to hold that owns nothing.
pub(crate) fn nothing() -> Arc<dyn std::any::Any + Send + Sync> {
    Arc::new(())
}
