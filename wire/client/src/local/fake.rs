//! A daemon in a thread, over the daemon's side of the shared-memory crate: enough to test the SDK
//! without an engine, and able to misbehave.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use chariot_proto::message::{Challenge, Hello, Message, OpenRing, Proof, RingOpened, Welcome};
use chariot_proto::{
    FrameHeader, FrameLimits, KeyHash, KeySecret, Opcode, SplitFrame, Status, decode, encode_frame,
    split_frame,
};
use chariot_shm::fds::send_with_fds;
use chariot_shm::{
    CompletionFlags, CompletionWords, LifeThread, Mapping, Memfd, MemfdOptions, ServerRing,
    ServerSession, SessionGeometry, Submission, SubmissionFlags,
};

pub(crate) const SECRET: [u8; 16] = [7; 16];
pub(crate) const ARENA_LEN: u64 = 256 << 20;
pub(crate) const VALUE_MAX: u64 = 16 << 20;

/// How the daemon behaves.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one switch a misdeed")]
pub(crate) struct Manners {
    pub shards: u16,
    pub strict: bool,
    /// Answer nothing in the rings.
    pub silent: bool,
    /// Answer with an extent outside the arena.
    pub wild_extent: bool,
    /// Answer with a token that nobody has sent.
    pub wild_token: bool,
    /// Never poll without a bell.
    pub sleepy: bool,
}

impl Manners {
    pub(crate) fn good(shards: u16) -> Self {
        Self {
            shards,
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    extent: u64,
    len: u64,
    version: u64,
}

/// What all sessions share.
struct Node {
    manners: Manners,
    arena: Memfd,
    mapping: Mapping,
    life_fd: Memfd,
    next_free: AtomicU64,
    submissions: AtomicU64,
    stop: AtomicBool,
    entries: std::sync::Mutex<HashMap<KeyHash, Entry>>,
}

/// A running fake; stops when dropped.
pub(crate) struct FakeDaemon {
    pub path: PathBuf,
    node: Arc<Node>,
    life: Option<LifeThread>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl FakeDaemon {
    pub(crate) fn start(manners: Manners) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (life, life_fd) = LifeThread::start(99, 1).unwrap();
        let arena = Memfd::create("fake-arena", ARENA_LEN, MemfdOptions::default()).unwrap();
        let size = usize::try_from(ARENA_LEN).unwrap();
        let mapping = Mapping::read_write(arena.fd(), 0, size).unwrap();
        let node = Arc::new(Node {
            manners,
            arena,
            mapping,
            life_fd,
            next_free: AtomicU64::new(4096),
            submissions: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            entries: std::sync::Mutex::default(),
        });
        let serving = Arc::clone(&node);
        let thread = std::thread::spawn(move || serve(&serving, &listener));
        Self {
            path,
            node,
            life: Some(life),
            thread: Some(thread),
            _directory: directory,
        }
    }

    /// Submissions taken so far, on all rings.
    pub(crate) fn submissions(&self) -> u64 {
        self.node.submissions.load(Ordering::Relaxed)
    }

    /// Dies as a killed daemon does: the life word says so, sockets close, nobody answers.
    pub(crate) fn kill(&mut self) {
        self.life = None;
        self.node.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.path).unwrap();
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.node.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(node: &Arc<Node>, listener: &UnixListener) {
    let mut sessions = Vec::new();
    while !node.stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            let node = Arc::clone(node);
            sessions.push(std::thread::spawn(move || session(&node, stream)));
        }
        std::thread::yield_now();
    }
    for session in sessions {
        session.join().unwrap();
    }
}

/// Frames of one connection.
struct Frames {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Frames {
    /// The next frame if all of it is there; `None` also at the end.
    fn receive(&mut self, node: &Node) -> Option<(FrameHeader, Vec<u8>)> {
        use std::io::Read;
        let limits = FrameLimits::with_payload_max(0);
        loop {
            if let SplitFrame::Complete { header, body, rest } =
                split_frame(&self.bytes, &limits).unwrap()
            {
                let body = body.to_vec();
                self.bytes = rest.to_vec();
                return Some((header, body));
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&more[..count]),
                Err(_) if node.stop.load(Ordering::Relaxed) => return None,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn send<M: Message>(
        &mut self,
        request: &FrameHeader,
        opcode: Opcode,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) {
        let mut bytes = Vec::new();
        let header = FrameHeader {
            opcode: opcode.as_u8(),
            ..FrameHeader::answer(request, Status::Ok)
        };
        encode_frame(&mut bytes, &header, message).unwrap();
        let sent = send_with_fds(self.stream.as_fd(), &bytes, fds).unwrap();
        self.stream.write_all(&bytes[sent..]).unwrap();
    }
}

fn session(node: &Arc<Node>, stream: UnixStream) {
    stream.set_nonblocking(true).unwrap();
    let mut frames = Frames {
        stream,
        bytes: Vec::new(),
    };
    let Some((header, body)) = frames.receive(node) else {
        return;
    };
    let _hello: Hello = decode(&header, &body).unwrap();
    let challenge = Challenge {
        version: 1,
        ..Challenge::default()
    };
    frames.send(&header, Opcode::Challenge, &challenge, &[]);
    let Some((header, body)) = frames.receive(node) else {
        return;
    };
    let _proof: Proof = decode(&header, &body).unwrap();
    let manners = node.manners;
    let geometry = SessionGeometry::new(manners.shards);
    let (server, descriptors) = ServerSession::create(geometry, 5).unwrap();
    let staging = Memfd::create("fake-staging", 1 << 20, MemfdOptions::default()).unwrap();
    let staging_map = Mapping::read_write(staging.fd(), 0, 1 << 20).unwrap();
    let life = node.life_fd.read_only().unwrap();
    let read_only = node.arena.read_only().unwrap();
    let arena = if manners.strict {
        read_only.as_fd()
    } else {
        node.arena.fd()
    };
    let mut fds = vec![
        life.as_fd(),
        descriptors.read_write(),
        descriptors.read_only(),
        arena,
    ];
    if manners.strict {
        fds.push(staging.fd());
    }
    let trusted = if manners.strict { 0 } else { Welcome::TRUSTED };
    let welcome = Welcome {
        boot_id: 99,
        session_id: 5,
        arena_len: ARENA_LEN,
        staging_len: if manners.strict { 1 << 20 } else { 0 },
        value_max: VALUE_MAX,
        payload_max: VALUE_MAX,
        flags: Welcome::SHARED_MEMORY | trusted,
        spin_us: 20,
        shard_count: manners.shards,
        descriptor_count: u16::try_from(fds.len()).unwrap(),
        key_secret: SECRET,
        shard_cpus: vec![Welcome::CPU_NONE; usize::from(manners.shards)],
        ..Welcome::default()
    };
    frames.send(&header, Opcode::Welcome, &welcome, &fds);
    serve_rings(node, &mut frames, &server, &staging_map);
}

fn serve_rings(node: &Node, frames: &mut Frames, server: &ServerSession, staging: &Mapping) {
    let mut rings: Vec<(ServerRing, OwnedFd)> = Vec::new();
    let mut buffer = [0; 64];
    while !node.stop.load(Ordering::Relaxed) {
        if let Ok(count) = std::io::Read::read(&mut frames.stream, &mut buffer) {
            if count == 0 {
                return;
            }
            frames.bytes.extend_from_slice(&buffer[..count]);
            if let Some((header, body)) = frames.receive(node) {
                if header.known_opcode() == Some(Opcode::Bye) {
                    return;
                }
                let open: OpenRing = decode(&header, &body).unwrap();
                let bell = eventfd();
                let opened = RingOpened { shard: open.shard };
                frames.send(&header, Opcode::RingOpened, &opened, &[bell.as_fd()]);
                let ring = server.ring(open.shard).unwrap();
                ring.set_sleeping(node.manners.sleepy);
                rings.push((ring, bell));
            }
        }
        for (ring, bell) in &mut rings {
            if node.manners.silent || (node.manners.sleepy && !was_rung(bell)) {
                continue;
            }
            while let Some(submission) = ring.take().unwrap() {
                node.submissions.fetch_add(1, Ordering::Relaxed);
                let mut completion = handle(node, ring, &submission, staging);
                completion.token = submission.words.token;
                if node.manners.wild_token {
                    completion.token ^= 0x8000_0000;
                }
                ring.refresh_consumed().unwrap();
                ring.post(&completion);
            }
            if ring.flush() {
                server.wake_if_waiting();
            }
        }
        std::thread::yield_now();
    }
}

#[expect(clippy::too_many_lines, reason = "the table of a fake")]
fn handle(
    node: &Node,
    ring: &ServerRing,
    submission: &Submission,
    staging: &Mapping,
) -> CompletionWords {
    let words = &submission.words;
    let hash = KeyHash {
        hi: words.hash_hi,
        lo: words.hash_lo,
    };
    let mut payload = Vec::new();
    ring.payload(submission, &mut payload);
    let mut completion = CompletionWords::default();
    let mut entries = node.entries.lock().unwrap();
    let known = entries.get(&hash).copied();
    let version = node.submissions.load(Ordering::Relaxed);
    let status = match Opcode::from_u8(words.opcode).unwrap() {
        Opcode::Set | Opcode::Publish | Opcode::StagedPublish => {
            let key = &payload[..usize::from(words.key_len)];
            assert_eq!(
                KeyHash::of(&KeySecret(SECRET), key),
                hash,
                "a write names its key"
            );
            let extent = match Opcode::from_u8(words.opcode).unwrap() {
                Opcode::Set => {
                    let extent = allocate(node, words.len);
                    write(node, extent, &payload[key.len()..]);
                    extent
                },
                Opcode::Publish => words.extent,
                _ => {
                    let extent = allocate(node, words.len);
                    write(node, extent, &read(staging, words.extent, words.len));
                    extent
                },
            };
            let stored = read(&node.mapping, extent, words.len);
            if words.flags & SubmissionFlags::CRC_PRESENT != 0 {
                assert_eq!(
                    crate::bytes::crc32c(&stored),
                    words.crc,
                    "the checksum of the bytes"
                );
            }
            if words.flags & SubmissionFlags::WANT_LEASE != 0 {
                lend(node, words.len, words.lease_count, &mut completion);
            }
            if words.flags & SubmissionFlags::SET_IF_ABSENT != 0 && known.is_some() {
                Status::Exists
            } else {
                completion.version = version;
                entries.insert(
                    hash,
                    Entry {
                        extent,
                        len: words.len,
                        version,
                    },
                );
                Status::Ok
            }
        },
        Opcode::Get | Opcode::View | Opcode::Wait | Opcode::Size | Opcode::Exist => match known {
            Some(entry) => {
                let is_read = matches!(
                    Opcode::from_u8(words.opcode),
                    Some(Opcode::Get | Opcode::View | Opcode::Wait)
                );
                if is_read {
                    completion.flags |= CompletionFlags::NAMES_EXTENT;
                    completion.extent = entry.extent;
                }
                if node.manners.wild_extent {
                    completion.extent = ARENA_LEN - 1;
                }
                completion.len = entry.len;
                completion.version = entry.version;
                Status::Ok
            },
            None => Status::NotFound,
        },
        Opcode::Delete => entries
            .remove(&hash)
            .map_or(Status::NotFound, |_| Status::Ok),
        Opcode::Expire => known.map_or(Status::NotFound, |_| Status::Ok),
        Opcode::LeaseGrant => {
            lend(node, words.len, words.lease_count, &mut completion);
            Status::Ok
        },
        Opcode::LeaseReturn => Status::Ok,
        _ => Status::NotSupported,
    };
    completion.status = status.as_u16();
    completion
}

fn lend(node: &Node, len: u64, count: u16, completion: &mut CompletionWords) {
    let slot_len = len.next_multiple_of(64);
    let count = count.clamp(1, 64);
    completion.flags |= CompletionFlags::LEASE;
    completion.lease_len = slot_len * u64::from(count);
    completion.lease_count = count;
    completion.lease_extent = allocate(node, completion.lease_len);
}

fn allocate(node: &Node, len: u64) -> u64 {
    let extent = node
        .next_free
        .fetch_add(len.next_multiple_of(64), Ordering::Relaxed);
    assert!(extent + len <= ARENA_LEN, "the fake never frees");
    extent
}

fn write(node: &Node, extent: u64, bytes: &[u8]) {
    let offset = usize::try_from(extent).unwrap();
    assert!(offset + bytes.len() <= node.mapping.len());
    // SAFETY: within the mapping, checked above.
    let target = unsafe { node.mapping.base().add(offset) };
    // SAFETY: the target is `bytes.len()` mapped bytes that nobody has been told of yet.
    unsafe {
        bytes
            .as_ptr()
            .copy_to_nonoverlapping(target.as_ptr(), bytes.len());
    };
}

fn read(mapping: &Mapping, offset: u64, len: u64) -> Vec<u8> {
    let (offset, len) = (
        usize::try_from(offset).unwrap(),
        usize::try_from(len).unwrap(),
    );
    assert!(offset + len <= mapping.len());
    let mut bytes = vec![0; len];
    // SAFETY: within the mapping, checked above.
    let source = unsafe { mapping.base().add(offset) };
    // SAFETY: the source is `len` mapped bytes, the target a fresh vector.
    unsafe {
        source
            .as_ptr()
            .copy_to_nonoverlapping(bytes.as_mut_ptr(), len);
    };
    bytes
}

fn eventfd() -> OwnedFd {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: `fd` was just opened here and belongs to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn was_rung(bell: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd;
    let mut count = 0_u64;
    // SAFETY: reads eight bytes into a live u64.
    let got = unsafe { libc::read(bell.as_raw_fd(), (&raw mut count).cast(), 8) };
    got == 8
}
