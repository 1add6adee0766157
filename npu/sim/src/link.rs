//! The link model: what submitting, starting and moving cost.
//!
//! It exists so that merging, batching and relaying show in tests. Its figures are a model's, never
//! a device's performance. Constants cite the device facts by section; what they do not give is
//! marked an assumption.

use crate::board::{Board, Port};
use crate::config::config;

/// One machine's figures. Rates are bytes per microsecond, times nanoseconds.
#[derive(Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) soc: &'static str,
    /// Time of the calling thread for one call.
    pub(crate) submit_ns: u64,
    /// Time of the stream before each task.
    pub(crate) task_ns: u64,
    /// Time of the stream for each entry of a batch.
    pub(crate) entry_ns: u64,
    /// Between the last byte sent and seen.
    pub(crate) latency_ns: u64,
    /// Host to device and device to host.
    pub(crate) host_rate: u64,
    /// Within one card.
    pub(crate) local_rate: u64,
    /// Between two cards of a host, each direction.
    pub(crate) peer_rate: u64,
    /// How many times slower pageable host memory is.
    pub(crate) pageable: u64,
    /// How many times slower host memory of another NUMA node is.
    pub(crate) far: u64,
    /// Setting up one communicator.
    pub(crate) link_setup_ns: u64,
    /// Whether an asynchronous batch is one task; else it is a loop of tasks (device facts 1.4).
    pub(crate) batch_async: bool,
}

const PRESETS: [Preset; 4] = [
    // Device facts 5.2 rule 13: 5 us a call, 2 to 9 us a task. 3.3: 37.5 GB/s host to device at 1
    // MiB, 7.7 to 8.2 GB/s at 72 KiB, so 9 us a fragment: 6.1 us of task, 1 us latency, 1.9 us of
    // bytes at 39 GB/s. 2.5: 161 to 165 GB/s between cards at 1 to 2 MiB. 3.4: 236 ms for a
    // communicator. 4.3: about 1 TB/s within a card. Entry of a batch 0.1 us, latency and pageable:
    // assumptions; far as on `a2`, likewise.
    Preset {
        name: "a3",
        soc: "Ascend910_9382",
        submit_ns: 5_000,
        task_ns: 6_100,
        entry_ns: 100,
        latency_ns: 1_000,
        host_rate: 39_000,
        local_rate: 1_000_000,
        peer_rate: 165_000,
        pageable: 4,
        far: 12,
        link_setup_ns: 236_000_000,
        batch_async: false,
    },
    // Device facts 2.5: 20.3 GB/s between cards at 2 MiB. 3.3: about 2 GB/s from the wrong node.
    // Host rate: an assumption (PCIe 4 x16).
    Preset {
        name: "a2",
        soc: "Ascend910B3",
        submit_ns: 5_000,
        task_ns: 9_000,
        entry_ns: 100,
        latency_ns: 2_000,
        host_rate: 25_000,
        local_rate: 800_000,
        peer_rate: 20_300,
        pageable: 4,
        far: 12,
        link_setup_ns: 236_000_000,
        batch_async: false,
    },
    // Device facts 4.3: 5 to 7 us a copy, 0.6 us an entry, 55 GB/s, a batch is one task. Between
    // cards: an assumption (through the host's PCIe), and from the other node.
    Preset {
        name: "h200pcie",
        soc: "Ascend950_model_of_h200pcie",
        submit_ns: 6_000,
        task_ns: 2_000,
        entry_ns: 600,
        latency_ns: 1_000,
        host_rate: 55_000,
        local_rate: 2_000_000,
        peer_rate: 50_000,
        pageable: 4,
        far: 2,
        link_setup_ns: 100_000_000,
        batch_async: true,
    },
    Preset {
        name: "instant",
        soc: "Ascend910_9382",
        submit_ns: 0,
        task_ns: 0,
        entry_ns: 0,
        latency_ns: 0,
        host_rate: u64::MAX,
        local_rate: u64::MAX,
        peer_rate: u64::MAX,
        pageable: 1,
        far: 1,
        link_setup_ns: 0,
        batch_async: false,
    },
];

impl Preset {
    /// The preset of that name; `a3` for names that nobody knows, said on stderr.
    pub(crate) fn named(name: &str) -> &'static Self {
        PRESETS
            .iter()
            .find(|preset| preset.name == name)
            .unwrap_or_else(|| {
                crate::log(&format!("ASCEND_SIM_PRESET={name} is unknown, a3 taken"));
                &PRESETS[0]
            })
    }
}

/// Between which memories bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    HostToDevice(u32),
    DeviceToHost(u32),
    Local(u32),
    Peer { from: u32, to: u32 },
    Host,
}

fn moving(bytes: u64, rate: u64) -> u64 {
    if rate == u64::MAX {
        return 0;
    }
    bytes * 1000 / rate
}

/// Takes the route's ports for `bytes`, from `start` on and behind whoever holds them; slow bytes
/// count several times. Returns when the last byte is there.
pub(crate) fn reserve(preset: &Preset, route: Route, bytes: u64, start: u64) -> u64 {
    let slower = match route {
        Route::Peer { .. } => config().peer_slower,
        _ => 1,
    };
    let (ports, rate): (&[(u32, Port)], u64) = match route {
        Route::HostToDevice(device) => (&[(device, Port::FromHost)], preset.host_rate),
        Route::DeviceToHost(device) => (&[(device, Port::ToHost)], preset.host_rate),
        Route::Local(device) => (&[(device, Port::Local)], preset.local_rate),
        Route::Peer { from, to } => (
            &[(from, Port::ToPeer), (to, Port::FromPeer)],
            preset.peer_rate,
        ),
        Route::Host => return start,
    };
    let time = moving(bytes * slower, rate);
    if time == 0 {
        return start;
    }
    Board::of_host().reserve(ports, start, time) + preset.latency_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_explains_the_published_cost_of_a_fragment() {
        let a3 = Preset::named("a3");
        let fragment = a3.task_ns + a3.latency_ns + moving(72 << 10, a3.host_rate);
        assert!((8_900..9_100).contains(&fragment), "{fragment} ns");
        let alone = f64::from(72 << 10) / fragment as f64 / (a3.host_rate as f64 / 1000.0);
        assert!((0.15..0.30).contains(&alone), "{alone}");
    }

    #[test]
    fn instant_costs_nothing() {
        assert_eq!(moving(1 << 40, Preset::named("instant").host_rate), 0);
    }
}
