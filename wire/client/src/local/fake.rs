//! A daemon in a thread, over the daemon's side of the shared-memory crate: enough to test the SDK
//! without an engine, and able to misbehave.

mod store;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use chariot_proto::message::{Challenge, Hello, Message, OpenRing, Proof, RingOpened, Welcome};
use chariot_proto::{
    FrameHeader, FrameLimits, KeyHash, KeySecret, Opcode, SplitFrame, Status, decode, encode_frame,
    split_frame,
};
use chariot_shm::fds::send_with_fds;
use chariot_shm::{
    CompletionFlags, CompletionWords, LifeThread, Mapping, Memfd, MemfdOptions, Note, ServerRing,
    ServerSession, SessionGeometry, Submission, SubmissionFlags, SubmissionWords, clock,
};

pub(crate) use self::store::IndexOf;
use self::store::{BOOT_ID, Entry, Store, TENANT};

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
    /// Whose index goes with the welcome.
    pub index_of: IndexOf,
}

impl Manners {
    pub(crate) fn good(shards: u16) -> Self {
        Self {
            shards,
            ..Self::default()
        }
    }
}

/// What all sessions share.
struct Node {
    manners: Manners,
    arena: Memfd,
    mapping: Mapping,
    life_fd: Memfd,
    next_free: AtomicU64,
    submissions: AtomicU64,
    bells: AtomicU64,
    stop: AtomicBool,
    store: Mutex<Store>,
    notes: Mutex<Vec<Note>>,
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
        let (life, life_fd) = LifeThread::start(BOOT_ID, 1).unwrap();
        let arena = Memfd::create("fake-arena", ARENA_LEN, MemfdOptions::default()).unwrap();
        let size = usize::try_from(ARENA_LEN).unwrap();
        let mapping = Mapping::read_write(arena.fd(), 0, size).unwrap();
        let wild_extent = manners.wild_extent.then_some(ARENA_LEN);
        let node = Arc::new(Node {
            manners,
            arena,
            mapping,
            life_fd,
            next_free: AtomicU64::new(4096),
            submissions: AtomicU64::new(0),
            bells: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            store: Mutex::new(Store::new(manners.shards, manners.index_of, wild_extent)),
            notes: Mutex::default(),
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

    /// What another client, or time, does to the fake's keys.
    pub(crate) fn hand(&self) -> Hand {
        Hand(Arc::clone(&self.node))
    }

    /// The daemon's hold on its life word: it is dead when this is dropped.
    pub(crate) fn take_life(&mut self) -> LifeThread {
        self.life.take().unwrap()
    }

    /// Dies as a killed daemon does: the life word says so, sockets close, nobody answers.
    pub(crate) fn kill(&mut self) {
        self.life = None;
        self.node.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Changes the fake's keys and looks at what it has heard, from any thread.
pub(crate) struct Hand(Arc<Node>);

impl Hand {
    /// Overwrites a key, or makes it, and then scribbles over the bytes that it had if `reuse`.
    pub(crate) fn overwrite(&self, key: &[u8], bytes: &[u8], reuse: bool) {
        let node = &self.0;
        let extent = allocate(node, bytes.len() as u64);
        write(node, extent, bytes);
        let entry = Entry {
            extent,
            len: bytes.len() as u64,
            version: 1 << 40,
            expiry_ms: 0,
        };
        let mut store = node.store.lock().unwrap();
        let old = store.get(hash_of(key));
        store.put(hash_of(key), entry);
        if let Some(old) = old.filter(|_| reuse) {
            write(
                node,
                old.extent,
                &vec![0xee; usize::try_from(old.len).unwrap()],
            );
        }
    }

    /// Makes a key that the index knows to be elsewhere: every read of it asks the shard.
    pub(crate) fn put_away(&self, key: &[u8]) {
        self.0.store.lock().unwrap().put_away(hash_of(key));
    }

    pub(crate) fn delete(&self, key: &[u8]) {
        assert!(self.0.store.lock().unwrap().remove(hash_of(key)));
    }

    /// The key has been over since the machine started.
    pub(crate) fn expire(&self, key: &[u8]) {
        assert!(self.0.store.lock().unwrap().set_expiry(hash_of(key), 1));
    }

    /// The key's record, and the low half of its generation, as a note names them.
    pub(crate) fn note_of(&self, key: &[u8]) -> Note {
        let (record, generation) = self.0.store.lock().unwrap().generation(hash_of(key));
        let generation = u32::try_from(generation).unwrap();
        Note { record, generation }
    }

    /// Takes the notes heard so far.
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.0.notes.lock().unwrap())
    }

    /// How often a bell was rung.
    pub(crate) fn bells(&self) -> u64 {
        self.0.bells.load(Ordering::Relaxed)
    }
}

fn hash_of(key: &[u8]) -> KeyHash {
    KeyHash::of(&KeySecret(SECRET), key)
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
    let (mut indexes, index_len) = {
        let store = node.store.lock().unwrap();
        (store.descriptors(), store.index_len())
    };
    if manners.index_of == IndexOf::Missing {
        indexes.pop();
    }
    fds.extend(indexes.iter().map(AsFd::as_fd));
    if manners.strict {
        fds.push(staging.fd());
    }
    let trusted = if manners.strict { 0 } else { Welcome::TRUSTED };
    let welcome = Welcome {
        boot_id: BOOT_ID,
        session_id: 5,
        tenant_id: TENANT,
        index_len,
        index_count: u16::try_from(indexes.len()).unwrap(),
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
            ring.drain_notes(|note| node.notes.lock().unwrap().push(note));
            let is_rung = was_rung(bell);
            node.bells.fetch_add(u64::from(is_rung), Ordering::Relaxed);
            if node.manners.silent || (node.manners.sleepy && !is_rung) {
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
    let mut store = node.store.lock().unwrap();
    let known = store.get(hash);
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
                let entry = Entry {
                    extent,
                    len: words.len,
                    version,
                    expiry_ms: expiry_of(words),
                };
                store.put(hash, entry);
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
        Opcode::Delete => found(store.remove(hash)),
        Opcode::Expire => found(store.set_expiry(hash, expiry_of(words))),
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

fn found(is_there: bool) -> Status {
    if is_there {
        Status::Ok
    } else {
        Status::NotFound
    }
}

/// When the life that a request asks for is over.
fn expiry_of(words: &SubmissionWords) -> u64 {
    let unit = if words.flags & SubmissionFlags::TTL_SECONDS == 0 {
        1
    } else {
        1000
    };
    match u64::from(words.ttl) * unit {
        0 => 0,
        ttl_ms => clock::coarse_ms() + ttl_ms,
    }
}

fn lend(node: &Node, len: u64, count: u16, completion: &mut CompletionWords) {
    let slot_len = len.next_multiple_of(64);
    let count = count.clamp(1, 64);
    completion.flags |= CompletionFlags::LEASE;
    completion.lease_len = slot_len;
    completion.lease_count = count;
    completion.extent = u64::MAX >> (64 - count);
    completion.lease_extent = allocate(node, slot_len * u64::from(count));
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
