//! Objects with bytes that can be told from any others.

use std::time::Duration;

use chariot_device::{CopyBatch, Device, Direction, Submission};
use chariot_peer::{DeviceBlob, DeviceObject};

/// Long enough for a busy machine; nobody waits that long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);

/// Byte `at` of the object that `seed` names.
fn byte(seed: u64, at: usize) -> u8 {
    let mixed = (seed ^ (at as u64 >> 3)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_le_bytes()[4 + (at & 3)]
}

pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte(seed, at)).collect()
}

/// An object with blobs of these sizes, of unspecified bytes; every blob stands within a larger
/// allocation.
pub(crate) fn empty(device: &Device, key: &str, sizes: &[usize]) -> DeviceObject {
    let blob = |&len: &usize| DeviceBlob {
        memory: device.alloc(len + 64).unwrap(),
        at: 64,
        len,
    };
    DeviceObject {
        key: key.as_bytes().to_vec(),
        blobs: sizes.iter().map(blob).collect(),
    }
}

/// Copies between the blobs and one host buffer.
fn copy(device: &Device, object: &DeviceObject, direction: Direction, bytes: &mut [u8]) {
    let (stream, host) = (
        device.stream().unwrap(),
        device.alloc_host(bytes.len()).unwrap(),
    );
    if direction == Direction::HostToDevice {
        host.write_at(0, bytes).unwrap();
    }
    let (mut batch, mut at) = (CopyBatch::new(direction), 0);
    for blob in &object.blobs {
        batch
            .push((&blob.memory, blob.at), (&host, at), blob.len)
            .unwrap();
        at += blob.len;
    }
    stream.submit(batch, Submission::Each).unwrap();
    stream.wait(Some(PATIENCE)).unwrap();
    if direction == Direction::DeviceToHost {
        host.read_at(0, bytes).unwrap();
    }
}

fn total(object: &DeviceObject) -> usize {
    object.blobs.iter().map(|blob| blob.len).sum()
}

/// An object with the bytes of `seed`.
pub(crate) fn filled(device: &Device, key: &str, sizes: &[usize], seed: u64) -> DeviceObject {
    let object = empty(device, key, sizes);
    let mut bytes = pattern(seed, total(&object));
    copy(device, &object, Direction::HostToDevice, &mut bytes);
    object
}

/// Whether an object has the bytes of `seed`.
pub(crate) fn holds(device: &Device, object: &DeviceObject, seed: u64) -> bool {
    let mut bytes = vec![0; total(object)];
    copy(device, object, Direction::DeviceToHost, &mut bytes);
    bytes == pattern(seed, bytes.len())
}
