//! What the vendor's headers do inline and no library exports.

use crate::sys::{HCCL_COMM_CONFIG_MAGIC, HCCL_COMM_CONFIG_NOT_SET, HcclCommConfig};

/// The version that has the buffer size and the expansion mode. CANN 8.1 knows 5, 8.0 only 2; a
/// newer library takes an older version with its size, never the other way round.
pub(crate) const VERSION: u32 = 4;

/// Bytes that a version-4 configuration has: up to and with the expansion mode.
pub(crate) const VERSION_SIZE: usize =
    std::mem::offset_of!(HcclCommConfig, hcclOpExpansionMode) + 4;

/// Returns a filled configuration of one communicator: `buffer_mib` MiB for each of its two buffers
/// in device memory, and `expansion_mode` (0 default, 1 host, 2 AICPU, 3 AIV).
///
/// # Panics
/// When `buffer_mib` is 0.
#[must_use]
pub fn comm_config(buffer_mib: u32, expansion_mode: u32) -> HcclCommConfig {
    assert!(buffer_mib > 0, "a communicator needs a buffer");
    HcclCommConfig {
        size: VERSION_SIZE,
        magic: HCCL_COMM_CONFIG_MAGIC,
        version: VERSION,
        reserved: 0,
        hcclBufferSize: buffer_mib,
        hcclDeterministic: HCCL_COMM_CONFIG_NOT_SET,
        hcclCommName: [0; 128],
        hcclUdi: [0; 128],
        hcclOpExpansionMode: expansion_mode,
        hcclRdmaTrafficClass: HCCL_COMM_CONFIG_NOT_SET,
        hcclRdmaServiceLevel: HCCL_COMM_CONFIG_NOT_SET,
        hcclWorldRankID: 0,
        hcclJobID: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_its_own_size_and_version() {
        let config = comm_config(10, 1);
        assert_eq!(config.size, 24 + 8 + 256 + 4);
        assert_eq!((config.magic, config.version), (0xf0f0_f0f0, 4));
        assert_eq!((config.hcclBufferSize, config.hcclOpExpansionMode), (10, 1));
    }
}
