//! Session birth, the same frames on both transports: hello, challenge, proof, welcome.
//!
//! Blocking, with the socket's own timeouts. On a unix socket descriptors ride along with a frame.
//! Used by `local` (also for opening rings later) and by `remote` (one handshake a connection).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use chariot_proto::auth::make_proof;
use chariot_proto::message::{Challenge, Hello, Message, Proof, Refused, Welcome};
use chariot_proto::{
    Answer, BodyBuffer, FrameHeader, FrameLimits, HEADER_LEN, Opcode, PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN, Status, decode_answer, encode_frame,
};
use chariot_shm::fds::recv_with_fds;

use crate::error::Error;
use crate::options::ConnectOptions;

/// What the daemon's logs call this client.
const CLIENT_NAME: &str = concat!("chariot-rust/", env!("CARGO_PKG_VERSION"));

/// A socket that frames go over, and descriptors where it can carry them.
pub(crate) trait Stream {
    /// Sends all bytes.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Receives some bytes, and what descriptors came with them; 0 is the end.
    fn receive(&mut self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize>;
}

impl Stream for UnixStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let (count, received) = recv_with_fds(self.as_fd(), buffer)?;
        fds.extend(received);
        Ok(count)
    }
}

impl Stream for TcpStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8], _fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.read(buffer)
    }
}

/// One side of a conversation in frames, one request at a time.
#[derive(Debug)]
pub(crate) struct Conversation<S> {
    pub stream: S,
    buffer: Vec<u8>,
    body: BodyBuffer,
    next_request_id: u64,
    /// Descriptors received and not yet taken.
    pub fds: Vec<OwnedFd>,
}

impl<S: Stream> Conversation<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            body: BodyBuffer::new(),
            next_request_id: 1,
            fds: Vec::new(),
        }
    }

    /// Sends a request and receives its answer, which has no payload.
    ///
    /// # Errors
    ///
    /// The refusal's status and text; `Timeout`, `Restarting` for the socket; `Malformed` for
    /// nonsense. After any error but a refusal the stream is out of step.
    pub(crate) fn exchange<Q: Message, A: Message>(
        &mut self,
        opcode: Opcode,
        request: &Q,
    ) -> Result<A, Error> {
        self.send(opcode, request)?;
        self.receive()
    }

    /// Sends a frame without waiting for an answer.
    pub(crate) fn send<Q: Message>(&mut self, opcode: Opcode, request: &Q) -> Result<(), Error> {
        let header = FrameHeader::request(opcode, self.next_request_id);
        self.next_request_id += 1;
        self.buffer.clear();
        encode_frame(&mut self.buffer, &header, request).map_err(refused_by_us)?;
        self.stream.send(&self.buffer).map_err(socket_error)
    }

    fn receive<A: Message>(&mut self) -> Result<A, Error> {
        let mut head = [0; HEADER_LEN as usize];
        self.receive_exact(&mut head)?;
        let limits = FrameLimits::with_payload_max(0);
        let header = FrameHeader::parse(&head, &limits).map_err(malformed)?;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.resize(header.body_len as usize, 0);
        let received = self.receive_exact(&mut body);
        self.body = body;
        received?;
        match decode_answer::<A>(&header, &self.body).map_err(malformed)? {
            Answer::Done(answer) => Ok(answer),
            Answer::Refused(refused) => Err(refusal(&refused)),
        }
    }

    fn receive_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            match self.stream.receive(buffer, &mut self.fds) {
                Ok(0) => return Err(Error::restarting()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {},
                Err(error) => return Err(socket_error(error)),
            }
        }
        Ok(())
    }

    /// Opens a session: hello, challenge, proof, welcome.
    ///
    /// # Errors
    ///
    /// As [`Self::exchange`]; `NotAuthorized` when a proof is wanted and there is no secret.
    pub(crate) fn open_session(
        &mut self,
        options: &ConnectOptions,
        wants_shared_memory: bool,
    ) -> Result<Welcome, Error> {
        let hello = Hello {
            features: 0,
            pid: std::process::id(),
            flags: if wants_shared_memory {
                Hello::WANTS_SHARED_MEMORY
            } else {
                0
            },
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            tenant: options.tenant.clone(),
            access_key: options.access_key.clone(),
            client: CLIENT_NAME.into(),
        };
        self.send(Opcode::Hello, &hello)?;
        // The proof covers the hello's body exactly as it was sent.
        let hello_body = self.buffer[usize::from(HEADER_LEN)..].to_vec();
        let challenge: Challenge = self.receive()?;
        let secret = options.secret_key.expose();
        let proof = if challenge.flags & Challenge::PROOF_REQUIRED == 0 {
            Proof::default()
        } else if secret.is_empty() {
            return Err(Error::new(
                Status::NotAuthorized,
                "the daemon asks for a secret key",
            ));
        } else {
            Proof::with_code(make_proof(secret, &challenge.nonce, &hello_body))
        };
        self.exchange(Opcode::Proof, &proof)
    }
}

/// The error of a refusal: its status, and the daemon's own words.
pub(crate) fn refusal(refused: &Refused) -> Error {
    if refused.message.is_empty() {
        return Error::from_status(refused.status());
    }
    Error::new(refused.status(), refused.message.clone())
}

/// The error of a socket that failed in the middle of a conversation.
pub(crate) fn socket_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::timeout(),
        _ => Error::restarting().with_source(error),
    }
}

/// The error of bytes that are no valid frame or message.
pub(crate) fn malformed(error: impl std::fmt::Display) -> Error {
    Error::new(Status::Malformed, error.to_string())
}

/// The error of a request that breaks a limit before it was sent.
pub(crate) fn refused_by_us(error: chariot_proto::MessageError) -> Error {
    Error::new(error.status(), error.to_string())
}
