//! The local transport.
use crate::error::Error;
use crate::options::{SetOptions, Version};
pub(crate) struct PinnedBytes(Vec<u8>);
impl PinnedBytes { pub(crate) fn as_slice(&self) -> &[u8] { &self.0 } }
pub(crate) struct LeasedBytes(Vec<u8>);
impl LeasedBytes {
    pub(crate) fn as_slice(&self) -> &[u8] { &self.0 }
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] { &mut self.0 }
    pub(crate) fn publish(self, _: &[u8], _: &SetOptions) -> Result<Version, Error> { Err(Error::restarting()) }
}
