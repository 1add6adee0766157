//! What must hold whatever a client writes into its session, and whatever a session's descriptors
//! hold: the other two fuzz targets beside those of `checks.rs`.
//!
//! Used twice: by the targets beside, and by `wire/shm/tests/session_words.rs`, which replays the
//! checked-in corpus and random programs in every ordinary test run.
//!
//! ```text
//! bytes ─► program: hostile stores │ honest calls of the client │ turns of the shard
//!                        └──────────── one session's memory ───────────┘
//! ```

use std::os::fd::AsFd as _;

use chariot_shm::layout::{
    INLINE_MAX, KEY_MAX, NOTE_ENTRIES, PAYLOAD_MAX, PIN_SLOTS, RING_ENTRIES, rw, rw_area,
};
use chariot_shm::{
    ClientRing, ClientSession, CompletionFlags, CompletionWords, MappedMemory, Mapping, Memfd,
    MemfdOptions, Memory as _, PinScan, PinSet, RingError, ServerRing, ServerSession,
    SessionGeometry, SubmissionFlags, SubmissionWords,
};

/// The bounds that are asserted. The replay lowers each of them to see that the corpus reaches it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Completions that a client has not given back.
    pub(crate) in_flight: u32,
    /// Bytes of one submission's payload.
    pub(crate) payload: usize,
    /// Pin slots that one scan reads.
    pub(crate) pin_slots: u32,
    /// Notes that one turn hears.
    pub(crate) notes: u32,
}

/// What the layout states.
pub(crate) const STATED: Limits = Limits {
    in_flight: RING_ENTRIES,
    payload: PAYLOAD_MAX as usize,
    pin_slots: PIN_SLOTS,
    notes: NOTE_ENTRIES,
};

const SHARDS: u16 = 2;
const SHARD: u16 = 1;
/// Steps of one program.
const STEPS_MAX: usize = 4096;

/// Reads a program; what is not there is zero.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        let mut word = [0; 8];
        let taken = self.take(bytes);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    fn byte(&mut self) -> u8 {
        self.number(1).to_le_bytes()[0]
    }

    fn word32(&mut self) -> u32 {
        low(self.number(4))
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.word32()).expect("32 bits fit") % limit
    }
}

fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// One session with both of its ends, and the memory as a hostile client writes it.
struct Session {
    client: ClientRing,
    server: ServerRing,
    hostile: MappedMemory,
    size: usize,
    limits: Limits,
    /// After the first nonsense the shard takes no more; it only scans.
    expelled: bool,
    scratch: Vec<u8>,
}

impl Session {
    fn new(limits: Limits) -> Self {
        let geometry = SessionGeometry::new(SHARDS);
        let (daemon, descriptors) = ServerSession::create(geometry, 7).expect("memory files");
        let session = ClientSession::attach(descriptors.read_write(), descriptors.read_only())
            .expect("a fresh session");
        let size = geometry.rw_size();
        let mapping = Mapping::read_write(descriptors.read_write(), 0, size).expect("a mapping");
        Self {
            client: session.ring(SHARD).expect("not taken yet"),
            server: daemon.ring(SHARD).expect("not taken yet"),
            hostile: MappedMemory::new(mapping),
            size,
            limits,
            expelled: false,
            scratch: vec![0; PAYLOAD_MAX as usize],
        }
    }

    /// A word that says how far somebody is: small steps reach further into the protocol than
    /// nonsense does.
    fn move_word(&self, offset: usize, program: &mut Cursor<'_>) {
        let now = self.hostile.load32(offset);
        let next = match program.byte() {
            255 => program.word32(),
            step => now.wrapping_add(u32::from(step)),
        };
        self.hostile.store32(offset, next);
    }

    fn submit(&mut self, program: &mut Cursor<'_>) {
        let (opcode, flags) = (program.byte(), program.byte());
        let key_len = u16::try_from(program.word32() % (KEY_MAX + 1)).expect("1,024 at most");
        let value_len = u64::from(program.word32() % (INLINE_MAX + 1));
        let words = SubmissionWords {
            opcode,
            flags,
            key_len,
            len: value_len,
            token: 9,
            ..SubmissionWords::default()
        };
        let payload = vec![opcode; usize::try_from(words.payload_len()).expect("2 KiB at most")];
        // Full is an outcome.
        if self.client.try_submit(&words, &payload).is_ok() {
            self.client.publish();
        }
    }

    fn client_reads(&mut self) {
        // The shard wrote nothing that is wrong, but the tail that this side published may have
        // been overwritten by a hostile store: then there are more answers than questions.
        while let Ok(Some(completion)) = self.client.pop() {
            assert_eq!(completion.flags, CompletionFlags::NAMES_EXTENT);
        }
        self.client.consume();
    }

    fn serve(&mut self, turns: u8) {
        for _ in 0..turns {
            let submission = match self.server.take() {
                Ok(Some(submission)) => submission,
                Ok(None) => break,
                Err(error) => return self.expel(error),
            };
            let len = self.server.copy_payload(&submission, &mut self.scratch);
            assert!(len <= self.limits.payload, "a payload of {len}");
            assert_eq!(len as u64, submission.words.payload_len());
            assert_eq!(self.server.unanswered(), 1);
            self.server.post(&CompletionWords {
                token: submission.words.token,
                flags: CompletionFlags::NAMES_EXTENT,
                extent: submission.words.extent & !63,
                ..CompletionWords::default()
            });
            let outstanding = self.server.outstanding();
            assert!(
                outstanding <= self.limits.in_flight,
                "{outstanding} answers"
            );
        }
        self.server.flush();
        self.server.wake_if_waiting();
    }

    fn expel(&mut self, error: RingError) {
        assert!(!error.to_string().is_empty());
        self.expelled = true;
    }

    fn scan(&mut self) {
        let mut set = PinSet::new();
        let mut scan = PinScan::start(&mut set, &self.server);
        match scan.add(&mut self.server) {
            Ok(slots) => assert!(slots <= self.limits.pin_slots, "{slots} slots"),
            Err(error) => {
                assert!(matches!(error, RingError::Head { .. }), "{error}");
                self.expelled = true;
            },
        }
        scan.finish();
        let most = PIN_SLOTS + RING_ENTRIES;
        assert!(set.len() <= usize::try_from(most).expect("16,768"));
    }

    fn hear(&mut self) {
        let mut heard = 0;
        self.server.drain_notes(|_| heard += 1);
        assert!(heard <= self.limits.notes, "{heard} notes");
    }

    fn step(&mut self, program: &mut Cursor<'_>) {
        let area = rw_area(SHARD);
        match program.byte() % 14 {
            0 => self.move_word(area + rw::SQ_TAIL, program),
            1 => self.move_word(area + rw::CQ_HEAD, program),
            2 => self.move_word(area + rw::PIN_HIGH_WATER, program),
            3 => self.move_word(area + rw::NOTE_TAIL, program),
            4 => self.submit(program),
            5 => {
                let entry = program.index(RING_ENTRIES as usize);
                let line = [(); 8].map(|()| program.number(8));
                self.hostile
                    .store_line(area + rw::SUBMISSIONS + entry * 64, &line);
            },
            6 => {
                let slot = program.index(PIN_SLOTS as usize);
                self.hostile
                    .store64(area + rw::PINS + slot * 8, program.number(8));
            },
            7 => {
                let slot = program.index(NOTE_ENTRIES as usize);
                self.hostile
                    .store64(area + rw::NOTES + slot * 8, program.number(8));
            },
            8 if !self.expelled => {
                let turns = program.byte();
                self.serve(turns);
            },
            9 => self.scan(),
            10 => self.hear(),
            11 => self.client_reads(),
            12 => {
                self.move_word(rw::WAITING, program);
                self.server.try_sleep();
                self.server.wake_if_waiting();
                self.server.set_sleeping(false);
            },
            13 => {
                let (offset, len) = (program.index(self.size), usize::from(program.byte()));
                let bytes = program.take(len.min(self.size - offset));
                self.hostile.write_bytes(offset, bytes);
            },
            _ => {},
        }
    }
}

/// Any stores of a client, between any turns of the shard: values or an error, within the bounds.
pub(crate) fn session_words(bytes: &[u8], limits: Limits) {
    let mut session = Session::new(limits);
    let mut program = Cursor(bytes);
    for _ in 0..STEPS_MAX {
        if program.0.is_empty() {
            break;
        }
        session.step(&mut program);
    }
    // However it went, what the client holds can still be asked for.
    session.scan();
    session.hear();
}

/// Any bytes in the descriptors that a daemon (or whoever claims to be one) hands out: a client
/// attaches or says why not, and reads completions or says that they are nonsense. Answers whether
/// it attached.
pub(crate) fn session_attach(bytes: &[u8]) -> bool {
    const MOST: usize = 1 << 20;
    let mut program = Cursor(bytes);
    let both = [(); 2].map(|()| {
        let size = 1 + program.index(MOST);
        let options = MemfdOptions::default();
        let file = Memfd::create("chariot-fuzz", size as u64, options).expect("a memory file");
        let mapping = Mapping::read_write(file.fd(), 0, size).expect("a mapping");
        let header_len = usize::from(program.byte()).min(size);
        let memory = MappedMemory::new(mapping);
        memory.write_bytes(0, program.take(header_len));
        for _ in 0..program.byte() % 16 {
            let (offset, len) = (program.index(size), usize::from(program.byte()));
            memory.write_bytes(offset, program.take(len.min(size - offset)));
        }
        file
    });
    let read_only = both[1].read_only().expect("the same file again");
    let session = match ClientSession::attach(both[0].fd(), read_only.as_fd()) {
        Ok(session) => session,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        },
    };
    for shard in 0..session.geometry().shard_count() {
        let mut ring = session.ring(shard).expect("not taken yet");
        let words = SubmissionWords {
            flags: SubmissionFlags::WANT_LEASE,
            ..SubmissionWords::default()
        };
        assert!(
            ring.try_submit(&words, b"").is_ok(),
            "a fresh ring has room"
        );
        ring.publish();
        let mut answers = 0;
        while let Ok(Some(_)) = ring.pop() {
            answers += 1;
        }
        assert!(answers <= 1, "one question has {answers} answers");
        ring.consume();
    }
    true
}
