//! A local session without the SDK: its descriptors in hand, to write into them what no SDK would.
//!
//! Memory files are files: nonsense is written with `pwrite`, without a mapping or unsafe code.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use chariot_proto::message::{Challenge, Hello, Message, OpenRing, Proof, RingOpened, Welcome};
use chariot_proto::{
    Answer, FrameHeader, FrameLimits, HEADER_LEN, Opcode, PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN, decode_answer, encode_frame,
};
use chariot_shm::fds::recv_with_fds;
use chariot_shm::layout::{self, rw};
use chariot_shm::{ClientRing, ClientSession, CompletionWords, SubmissionWords};

use crate::wait;

/// A session in hand.
#[derive(Debug)]
pub struct RawSession {
    stream: UnixStream,
    fds: Vec<OwnedFd>,
    /// What the daemon said at its birth.
    pub welcome: Welcome,
    /// Its memory.
    pub memory: ClientSession,
    read_write: File,
}

impl RawSession {
    /// Opens a session on a unix socket.
    #[track_caller]
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        let mut fds = Vec::new();
        let hello = Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            flags: Hello::WANTS_SHARED_MEMORY,
            pid: std::process::id(),
            client: "raw".into(),
            ..Hello::default()
        };
        let _challenge: Challenge = exchange(&stream, Opcode::Hello, &hello, &mut fds);
        let welcome: Welcome = exchange(&stream, Opcode::Proof, &Proof::default(), &mut fds);
        let memory = ClientSession::attach(fds[1].as_fd(), fds[2].as_fd()).unwrap();
        let read_write = File::from(fds[1].try_clone().unwrap());
        Self {
            stream,
            fds,
            welcome,
            memory,
            read_write,
        }
    }

    /// Opens the ring of shard 0 and returns it with its bell.
    pub fn ring(&mut self) -> (ClientRing, File) {
        let before = self.fds.len();
        let request = OpenRing { shard: 0 };
        let _opened: RingOpened = exchange(&self.stream, Opcode::OpenRing, &request, &mut self.fds);
        let bell = self.fds.drain(before..).next().unwrap();
        (self.memory.ring(0).unwrap(), File::from(bell))
    }

    /// Writes a word of the memory that both sides write, in the area of shard 0.
    pub fn write_word(&self, offset: usize, word: u32) {
        let at = (layout::rw_area(0) + offset) as u64;
        self.read_write
            .write_all_at(&word.to_le_bytes(), at)
            .unwrap();
    }

    /// Overwrites the words of a submission in place.
    pub fn write_submission(&self, entry: usize, words: &SubmissionWords) {
        let at = layout::rw_area(0) + rw::SUBMISSIONS + entry * 64;
        for (index, word) in words.encode().into_iter().enumerate() {
            self.read_write
                .write_all_at(&word.to_le_bytes(), (at + index * 8) as u64)
                .unwrap();
        }
    }
}

/// Rings a session's bell.
pub fn ring_bell(bell: &mut File) {
    bell.write_all(&1_u64.to_le_bytes()).unwrap();
}

/// Submits and waits for the completion; `None` when the session was expelled instead.
pub fn ask(
    session: &RawSession,
    ring: &mut ClientRing,
    bell: &mut File,
    words: &SubmissionWords,
    payload: &[u8],
) -> Option<CompletionWords> {
    ring.try_submit(words, payload).unwrap();
    ring.publish();
    ring_bell(bell);
    let mut answer = None;
    wait::until("an answer or the end", || {
        answer = ring.pop().ok().flatten();
        answer.is_some() || session.memory.is_expelled()
    });
    if answer.is_some() {
        ring.consume();
    }
    answer
}

fn exchange<Q: Message, A: Message>(
    stream: &UnixStream,
    opcode: Opcode,
    request: &Q,
    fds: &mut Vec<OwnedFd>,
) -> A {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &FrameHeader::request(opcode, 1), request).unwrap();
    let mut writer = stream;
    writer.write_all(&bytes).unwrap();
    let mut head = vec![0; usize::from(HEADER_LEN)];
    receive(stream, &mut head, fds);
    let header = FrameHeader::parse(&head, &FrameLimits::with_payload_max(0)).unwrap();
    let mut body = vec![0; header.body_len as usize];
    receive(stream, &mut body, fds);
    match decode_answer(&header, &body).unwrap() {
        Answer::Done(message) => message,
        Answer::Refused(refused) => unreachable!("refused: {refused:?}"),
    }
}

fn receive(stream: &UnixStream, mut buffer: &mut [u8], fds: &mut Vec<OwnedFd>) {
    while !buffer.is_empty() {
        let (count, received) = recv_with_fds(stream.as_fd(), buffer).unwrap();
        assert!(count > 0, "the daemon closed");
        fds.extend(received);
        buffer = &mut buffer[count..];
    }
}
