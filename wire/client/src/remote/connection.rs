//! One TCP connection: frames out with a gathered payload, frames in, payload straight to its
//! place.
//!
//! ```text
//!   send:    [header + body][value][value]…   one vectored write, no copy
//!   receive: inbox 16 KiB ─▶ header, body (and small payloads); the rest of a payload is read
//!            into the caller's memory
//! ```
//! The head of an answer is polled for, for as long as a sleep and a wake cost the daemon's
//! machine; everything else is blocking with the socket's timeout, which is set again only when a
//! call's remaining time differs from it by more than a tenth. After any error the connection is
//! out of step and is dropped.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use chariot_proto::message::{Message, Welcome};
use chariot_proto::{BodyBuffer, FrameHeader, FrameLimits, HEADER_LEN, Opcode, encode_frame};
use chariot_shm::clock;

use crate::affinity;
use crate::error::Error;
use crate::handshake::{Conversation, malformed, refused_by_us, socket_error};
use crate::options::ConnectOptions;

/// Bytes of the inbox: a header, the body of a batch of a few hundred, or a small value.
const INBOX_BYTES: usize = 16 << 10;
/// Most time that is kept for an answer, as for a local write.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Most pieces of one vectored write (`IOV_MAX` of Linux).
const PIECES_MAX: usize = 1024;

/// A connection that has been welcomed.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    timeout: Duration,
    next_request_id: u64,
    outbox: Vec<u8>,
    inbox: Box<[u8]>,
    start: usize,
    end: usize,
    body: BodyBuffer,
    limits: FrameLimits,
    deadline_ns: u64,
    /// How long the head of an answer is polled for; zero where this process may use one CPU only.
    spin_ns: u64,
    /// The last exchange received the head of its answer.
    in_step: bool,
}

/// A frame's header, and its body in the connection's buffer.
pub(super) struct Received<'a> {
    pub header: FrameHeader,
    pub body: &'a [u8],
}

impl Connection {
    /// Connects and shakes hands.
    pub(super) fn open(
        address: SocketAddr,
        options: &ConnectOptions,
        wants_shared_memory: bool,
    ) -> Result<(Self, Welcome), Error> {
        let timeout = options.connect_timeout.max(Duration::from_millis(1));
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(|error| {
            let cause = format!("no daemon answers on {address}");
            Error::new(chariot_proto::Status::Restarting, cause).with_source(error)
        })?;
        let set = |stream: &TcpStream| -> io::Result<()> {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))
        };
        set(&stream).map_err(socket_error)?;
        let mut conversation = Conversation::new(stream);
        let welcome = conversation.open_session(options, wants_shared_memory)?;
        let connection = Self {
            stream: conversation.stream,
            timeout,
            next_request_id: 1 << 32,
            outbox: Vec::new(),
            inbox: vec![0; INBOX_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            body: BodyBuffer::new(),
            limits: FrameLimits::with_payload_max(chariot_proto::limits::PAYLOAD_MAX),
            deadline_ns: 0,
            spin_ns: spin_ns(options.spin, &welcome, address.ip().is_loopback()),
            in_step: true,
        };
        Ok((connection, welcome))
    }

    /// Sends a request with its payload and receives the header and body of its answer. The
    /// payload of the answer, `header.payload_len` bytes, follows: read or drop all of it.
    pub(super) fn exchange<'a, Q: Message>(
        &'a mut self,
        opcode: Opcode,
        request: &Q,
        payload: &[&[u8]],
        budget: Duration,
    ) -> Result<Received<'a>, Error> {
        assert!(
            self.start == self.end,
            "the last answer was read to its end"
        );
        self.in_step = false;
        let budget_ns = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX / 4);
        self.deadline_ns = clock::monotonic_ns().saturating_add(budget_ns);
        let request_id = self.next_request_id;
        self.next_request_id += 1;
        let header = FrameHeader::request(opcode, request_id)
            .with_deadline(unix_deadline_ms(for_node(budget)));
        self.outbox.clear();
        let header = encode_frame(&mut self.outbox, &header, request).map_err(refused_by_us)?;
        let sum: u64 = payload.iter().map(|piece| piece.len() as u64).sum();
        assert!(
            header.payload_len == sum,
            "the payload is what the body says"
        );
        self.send(payload)?;
        let header = self.receive_head()?;
        if header.request_id != request_id {
            return Err(malformed("an answer to another request"));
        }
        self.in_step = true;
        Ok(Received {
            header,
            body: &self.body,
        })
    }

    /// Whether another exchange may follow the last one.
    pub(super) fn is_in_step(&self) -> bool {
        self.in_step
    }

    /// Reads payload into `target`, all of it.
    pub(super) fn read_payload(&mut self, target: &mut [MaybeUninit<u8>]) -> Result<(), Error> {
        let mut done = (self.end - self.start).min(target.len());
        let buffered = &self.inbox[self.start..self.start + done];
        for (place, &byte) in target.iter_mut().zip(buffered) {
            place.write(byte);
        }
        self.start += done;
        while done < target.len() {
            let rest = &mut target[done..];
            done += self.read_some(Some(rest))?;
        }
        Ok(())
    }

    /// Reads payload that nobody wants.
    pub(super) fn drop_payload(&mut self, mut len: u64) -> Result<(), Error> {
        while len > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            let count = ((self.end - self.start) as u64).min(len);
            self.start += usize::try_from(count).expect("at most the inbox");
            len -= count;
        }
        Ok(())
    }

    fn send(&mut self, payload: &[&[u8]]) -> Result<(), Error> {
        self.refresh_timeout()?;
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(payload.len() + 1);
        slices.push(IoSlice::new(&self.outbox));
        slices.extend(payload.iter().map(|piece| IoSlice::new(piece)));
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let window = rest.len().min(PIECES_MAX);
            match self.stream.write_vectored(&rest[..window]) {
                Ok(0) => return Err(Error::restarting()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {},
                Err(error) => return Err(socket_error(error)),
            }
            if clock::monotonic_ns() > self.deadline_ns {
                return Err(Error::timeout());
            }
        }
        Ok(())
    }

    fn receive_head(&mut self) -> Result<FrameHeader, Error> {
        let head_len = usize::from(HEADER_LEN);
        if self.start == self.end {
            self.poll_head();
        }
        while self.end - self.start < head_len {
            self.fill()?;
        }
        let head = &self.inbox[self.start..self.start + head_len];
        let header = FrameHeader::parse(head, &self.limits).map_err(malformed)?;
        self.start += head_len;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let body_len = header.body_len as usize;
        let received = self.read_body(&mut body, body_len);
        self.body = body;
        received.map(|()| header)
    }

    /// Looks for the first bytes of an answer without sleeping, for a bounded time. Whatever it
    /// finds, an error as well, the blocking read that follows finds too.
    fn poll_head(&mut self) {
        if self.spin_ns == 0 {
            return;
        }
        let until = clock::monotonic_ns().saturating_add(self.spin_ns);
        while !has_arrived(&self.stream) {
            if clock::monotonic_ns() >= until {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn read_body(&mut self, body: &mut BodyBuffer, len: usize) -> Result<(), Error> {
        while body.len() < len {
            if self.start == self.end {
                self.fill()?;
            }
            let count = (self.end - self.start).min(len - body.len());
            body.extend_from_slice(&self.inbox[self.start..self.start + count]);
            self.start += count;
        }
        Ok(())
    }

    /// Receives more into the inbox.
    fn fill(&mut self) -> Result<(), Error> {
        if self.start > 0 {
            self.inbox.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = self.read_some(None)?;
        self.end += count;
        Ok(())
    }

    /// One successful read, into `target` or behind what the inbox holds.
    fn read_some(&mut self, target: Option<&mut [MaybeUninit<u8>]>) -> Result<usize, Error> {
        let mut target = target;
        loop {
            self.refresh_timeout()?;
            let result = match &mut target {
                Some(target) => receive_uninit(&self.stream, target),
                None => self.stream.read(&mut self.inbox[self.end..]),
            };
            match result {
                Ok(0) => return Err(Error::restarting()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {},
                Err(error) => return Err(socket_error(error)),
            }
        }
    }

    fn refresh_timeout(&mut self) -> Result<(), Error> {
        let left = self.deadline_ns.saturating_sub(clock::monotonic_ns());
        if left == 0 {
            return Err(Error::timeout());
        }
        let left = Duration::from_nanos(left).max(Duration::from_millis(1));
        if left.abs_diff(self.timeout) > self.timeout / 10 {
            self.stream
                .set_read_timeout(Some(left))
                .map_err(socket_error)?;
            self.stream
                .set_write_timeout(Some(left))
                .map_err(socket_error)?;
            self.timeout = left;
        }
        Ok(())
    }
}

/// Receives into memory that need not be initialised.
fn receive_uninit(stream: &TcpStream, target: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open while `stream` lives, and `target` is writable for its length;
    // the kernel writes initialised bytes and says how many.
    let count = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            target.as_mut_ptr().cast(),
            target.len(),
            0,
        )
    };
    usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
}

/// How long to poll for an answer: as the caller and the daemon allow, and not at all where it
/// would take the only CPU, or one that a shard on this host owns, from somebody else.
fn spin_ns(wanted: Duration, welcome: &Welcome, is_here: bool) -> u64 {
    let elsewhere: &[u32] = &[];
    let shard_cpus = if is_here {
        &welcome.shard_cpus
    } else {
        elsewhere
    };
    let spin = affinity::spin(wanted, welcome.spin_us, shard_cpus);
    u64::try_from(spin.as_nanos()).expect("a daemon advises less than two hours")
}

/// Whether a read would not wait: bytes are there, or the end, or an error.
fn has_arrived(stream: &TcpStream) -> bool {
    use std::os::fd::AsRawFd;
    let mut byte = MaybeUninit::<u8>::uninit();
    // SAFETY: the descriptor is open while `stream` lives, and `byte` is writable for one byte;
    // with MSG_PEEK the byte stays in the socket for the read that follows.
    let count = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            byte.as_mut_ptr().cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    count >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
}

/// The part of a caller's time that the node has: its answer (there was no memory in time) must
/// arrive within the rest.
fn for_node(budget: Duration) -> Duration {
    budget.saturating_sub((budget / 4).min(ANSWER_MAX))
}

/// The wall clock `budget` from now, in milliseconds since 1970.
fn unix_deadline_ms(budget: Duration) -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let deadline = since.unwrap_or_default().saturating_add(budget);
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
}
