//! What one lane owns to stage: page-locked host memory, device memory, and streams to gather on.
//! All of it is made at first need, so that a core that never stages pays nothing.

use chariot_device::{Device, DeviceError, DeviceMemory, HostMemory, Stream};

/// Page-locked bytes of a lane: two batches of an ordinary object fit.
pub(crate) const HOST_BYTES: usize = 8 << 20;
/// Device bytes of a lane: one batch.
pub(crate) const DEVICE_BYTES: usize = 16 << 20;
/// Streams that gather at once: 4 to 8 are what cards take side by side (device facts, 1.4).
pub(crate) const GATHERING: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Staging {
    host: Option<HostMemory>,
    device: Option<DeviceMemory>,
    gathering: Vec<Stream>,
}

/// Makes the streams of a lane.
pub(crate) fn gathering(device: &Device) -> Result<Vec<Stream>, DeviceError> {
    (0..GATHERING).map(|_| device.stream()).collect()
}

impl Staging {
    /// The page-locked memory: as much as the host's limit allows, down to a 16th.
    pub(crate) fn host(&mut self, device: &Device) -> Result<HostMemory, DeviceError> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let mut len = HOST_BYTES;
        loop {
            match device.alloc_host(len) {
                Ok(host) => return Ok(self.host.insert(host).clone()),
                Err(DeviceError::PinnedMemory { .. }) if len > HOST_BYTES / 16 => len /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Device memory and streams to gather with.
    pub(crate) fn device(
        &mut self,
        device: &Device,
    ) -> Result<(DeviceMemory, &[Stream]), DeviceError> {
        if self.gathering.is_empty() {
            self.gathering = gathering(device)?;
        }
        let memory = match &self.device {
            Some(memory) => memory.clone(),
            None => self.device.insert(device.alloc(DEVICE_BYTES)?).clone(),
        };
        Ok((memory, &self.gathering))
    }

    /// The streams that were made so far.
    pub(crate) fn streams(&self) -> &[Stream] {
        &self.gathering
    }
}
