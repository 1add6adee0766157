//! `mset_d2h`: from a card into the cache.
//!
//! Per key: does it exist, a lease of the object's length, the blob table, the card's copy, publish
//! unless somebody else was first. Leases, copies and publishes of different keys overlap: keys are
//! leased while earlier ones are copied, and published group by group. At most [`HELD_MAX`] bytes
//! are leased and not yet published, so that a call of any size needs no more room at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::{Client, Error, SetOptions, Status, WriteBuffer};
use chariot_device::Direction;
use chariot_transfer::{BlobTable, DeviceCore};

use crate::arenas::Arenas;
use crate::blobs::BlobList;
use crate::client::{SetOutcome, Stored};
use crate::fault;
use crate::flight::{Flight, Landed};

/// Most bytes of a call that are leased and not yet published, or one object: eight groups, so that
/// both lanes have work while the oldest is published.
const HELD_MAX: usize = 64 << 20;
/// How long a lease is waited for while earlier objects of the call could make room.
const LEASE_FIRST: Duration = Duration::from_millis(20);

/// One call.
struct Set<'a> {
    client: &'a Client,
    arenas: &'a Arenas,
    options: &'a SetOptions,
    deadline: Instant,
    flight: Flight<'a, WriteBuffer>,
    out: Vec<SetOutcome>,
}

/// Writes objects; one outcome for each key.
pub(crate) fn run(
    client: &Client,
    (core, arenas): (&Arc<DeviceCore>, &Arenas),
    (keys, lists): (&[&[u8]], &[BlobList]),
    options: &SetOptions,
    deadline: Instant,
) -> Vec<SetOutcome> {
    let mut set = Set {
        client,
        arenas,
        options,
        deadline,
        flight: Flight::new(core, Direction::DeviceToHost, deadline),
        out: Vec::with_capacity(keys.len()),
    };
    // Of equal keys the first is written; the others share its fate.
    let mut first: HashMap<&[u8], usize> = HashMap::with_capacity(keys.len());
    let mut later = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let known = *first.entry(key).or_insert(number);
        if known != number {
            later.push((number, known));
        }
    }
    set.out.resize_with(keys.len(), || Ok(Stored::Existed));
    let exist = client.mexist(keys);
    for (number, exists) in exist.into_iter().enumerate() {
        let is_first = first[keys[number]] == number;
        match exists {
            Ok(false) if is_first => set.begin(number, keys[number], &lists[number]),
            Ok(_) => {},
            Err(error) => set.out[number] = Err(error),
        }
    }
    let landed = set.flight.depart();
    set.publish(landed);
    while set.flight.is_waiting() {
        set.land();
    }
    let mut out = std::mem::take(&mut set.out);
    for (number, known) in later {
        out[number] = out[known].clone().map(|_stored| Stored::Existed);
    }
    out
}

impl Set<'_> {
    fn left(&self) -> Result<Duration, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(fault::late());
        }
        Ok(left)
    }

    /// Leases an object's memory and sends it off.
    fn begin(&mut self, number: usize, key: &[u8], list: &BlobList) {
        let table = match BlobTable::of_lens(&list.lens()) {
            Ok(table) => table,
            Err(error) => {
                self.out[number] = Err(fault::of_table(error));
                return;
            },
        };
        while self.flight.bytes() > 0 && self.flight.bytes() + table.object_bytes() > HELD_MAX {
            self.make_room();
        }
        let mut buffer = match self.lease(key, table.object_bytes()) {
            Ok(buffer) => buffer,
            Err(error) => {
                self.out[number] = Err(error);
                return;
            },
        };
        write_table(&mut buffer, &table);
        buffer.skip_checksum();
        let host = self.arenas.of_buffer(self.flight.device(), &mut buffer);
        let landed = self.flight.add(number, (host, table.blobs(), list), buffer);
        self.publish(landed);
    }

    /// Leases memory; earlier objects of this call are published when there is none.
    fn lease(&mut self, key: &[u8], len: usize) -> Result<WriteBuffer, Error> {
        loop {
            let left = self.left()?;
            let held = self.flight.bytes() > 0;
            let most = if held { left.min(LEASE_FIRST) } else { left };
            let options = SetOptions {
                if_absent: true,
                deadline: Some(most),
                ..self.options.clone()
            };
            match self.client.create(key, len, &options) {
                Err(error) if held && is_full(&error) => self.make_room(),
                other => return other,
            }
        }
    }

    /// Ends something of what is held.
    fn make_room(&mut self) {
        if !self.flight.is_waiting() {
            let landed = self.flight.depart();
            self.publish(landed);
        }
        self.land();
    }

    fn land(&mut self) {
        let landed = self.flight.land_oldest();
        self.publish(landed);
    }

    /// Publishes what the card has written.
    fn publish(&mut self, landed: Vec<Landed<WriteBuffer>>) {
        let (mut numbers, mut buffers) = (Vec::new(), Vec::new());
        for Landed { number, hold } in landed {
            match (hold, self.left()) {
                (Ok(mut buffer), Ok(left)) => {
                    buffer.set_deadline(left);
                    numbers.push(number);
                    buffers.push(buffer);
                },
                (Err(error), _) | (Ok(_), Err(error)) => self.out[number] = Err(error),
            }
        }
        // One batch needs one deadline.
        if let Ok(left) = self.left() {
            for buffer in &mut buffers {
                buffer.set_deadline(left);
            }
        }
        let published = Client::mpublish(buffers);
        assert_eq!(published.len(), numbers.len(), "one answer for each buffer");
        for (number, published) in numbers.into_iter().zip(published) {
            self.out[number] = match published {
                Ok(_version) => Ok(Stored::Written),
                Err(error) if error.status() == Status::Exists => Ok(Stored::Existed),
                Err(error) => Err(error),
            };
        }
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error.status(), Status::OutOfMemory | Status::Timeout)
}

/// The table, and zeroes up to the first blob: what lay there before is somebody else's.
fn write_table(buffer: &mut WriteBuffer, table: &BlobTable) {
    let bytes = table.encode();
    let data_at = table.blobs().first().map_or(bytes.len(), |blob| blob.0);
    assert!(bytes.len() <= data_at, "the table is before the blobs");
    assert!(buffer.len() == table.object_bytes(), "leased for this");
    buffer[..bytes.len()].copy_from_slice(&bytes);
    buffer[bytes.len()..data_at].fill(0);
}
