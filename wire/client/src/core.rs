//! The core under both faces: picks the session, runs an operation, reconnects when it must.

use chariot_proto::Status;

use crate::client::{Client, Place};
use crate::error::Error;
use crate::options::{ConnectOptions, GetOptions, SetOptions, Version};
use crate::sink::Sink;
use crate::view::View;
use crate::write_buffer::WriteBuffer;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Core {}

/// A question about keys whose answer is a number or a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Exist,
    Size,
    Delete,
    /// New life in milliseconds; 0 for ever.
    Expire(u64),
}

impl Question {
    pub(crate) fn expire(ttl: Option<Duration>) -> Result<Self, Error> {
        match ttl {
            None => Ok(Self::Expire(0)),
            Some(ttl) if ttl.is_zero() => {
                Err(Error::new(Status::InvalidArgument, "a life of zero: delete the key instead"))
            },
            Some(ttl) => Ok(Self::Expire(crate::options::whole_ms(ttl))),
        }
    }
}

impl Core {
    pub(crate) fn connect(options: ConnectOptions) -> Result<Self, Error> {
        let _ = options;
        Err(Error::restarting())
    }
    pub(crate) fn place(&self) -> Place { Place::Away }
    pub(crate) fn write(&self, _: &[(&[u8], &[u8])], _: &SetOptions, _: &mut [Result<Version, Error>]) {}
    pub(crate) fn create(&self, c: &Client, k: &[u8], l: usize, o: &SetOptions) -> Result<WriteBuffer, Error> { Ok(WriteBuffer::owned(c.clone(), k, o.clone(), l)) }
    pub(crate) fn read(&self, _: &[&[u8]], _: &GetOptions, _: &mut dyn Sink, _: &mut [Result<Option<usize>, Error>]) {}
    pub(crate) fn view(&self, _: &[&[u8]], _: &GetOptions, _: &mut [Result<Option<View>, Error>]) {}
    pub(crate) fn ask(&self, _: Question, _: &[&[u8]], _: &mut [Result<Option<u64>, Error>]) {}
    pub(crate) fn prefix(&self, _: &[&[u8]]) -> Result<usize, Error> { Ok(0) }
}
