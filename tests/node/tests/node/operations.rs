//! Every operation, single and batch, over both transports.

use chariot_client::{GetOptions, SetOptions};
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::pattern;

const MIB: usize = 1 << 20;

#[test]
fn set_and_get_of_all_sizes() {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: 512,
        ..DaemonOptions::default()
    });
    for (name, client) in daemon.both() {
        for (seed, len) in [1, 10, 1_024, 1_025, 4_096, MIB, 70 * MIB]
            .into_iter()
            .enumerate()
        {
            let key = format!("{name}/{len}");
            let value = pattern::value(len, seed as u64);
            client
                .set(key.as_bytes(), &value, &SetOptions::default())
                .unwrap_or_else(|error| panic!("{name}: set of {len}: {error}"));
            let read = client
                .get(key.as_bytes(), &GetOptions::default())
                .unwrap_or_else(|error| panic!("{name}: get of {len}: {error}"));
            let read = read.unwrap_or_else(|| panic!("{name}: {len} bytes are missing"));
            assert!(read == value, "{name}: {len} bytes came back different");
        }
    }
}
