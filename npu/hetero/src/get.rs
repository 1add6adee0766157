//! `mget_h2d`: from the cache into a card.
//!
//! All keys are looked up (and waited for, if the caller does) first: a view pins a value without a
//! message. A value's blob table is copied once and then checked; what it says decides.

use std::sync::Arc;
use std::time::Instant;

use chariot_client::{Client, Error, GetOptions, View};
use chariot_device::Direction;
use chariot_transfer::{BlobTable, DeviceCore};

use crate::arenas::Arenas;
use crate::blobs::BlobList;
use crate::client::GetOutcome;
use crate::flight::{Flight, Landed};
use crate::{fault, rules};

/// Reads objects; one outcome for each key.
pub(crate) fn run(
    client: &Client,
    (core, arenas): (&Arc<DeviceCore>, &Arenas),
    (keys, lists): (&[&[u8]], &[BlobList]),
    options: &GetOptions,
    deadline: Instant,
) -> Vec<GetOutcome> {
    let mut out: Vec<GetOutcome> = vec![Ok(false); keys.len()];
    let mut flight = Flight::new(core, Direction::HostToDevice, deadline);
    let views = client.mview_with(keys, options);
    for (number, view) in views.into_iter().enumerate() {
        let view = match view {
            Ok(Some(view)) => view,
            Ok(None) => continue,
            Err(error) => {
                out[number] = Err(error);
                continue;
            },
        };
        let table = match table_of(&view).and_then(|table| {
            rules::check_shape(table.blobs(), &lists[number])?;
            Ok(table)
        }) {
            Ok(table) => table,
            Err(error) => {
                out[number] = Err(error);
                continue;
            },
        };
        let host = arenas.of_view(flight.device(), &view);
        let landed = flight.add(number, (host, table.blobs(), &lists[number]), view);
        note(&mut out, landed);
    }
    let landed = flight.depart();
    note(&mut out, landed);
    while flight.is_waiting() {
        let landed = flight.land_oldest();
        note(&mut out, landed);
    }
    out
}

fn note(out: &mut [GetOutcome], landed: Vec<Landed<View>>) {
    for Landed { number, hold } in landed {
        out[number] = hold.map(|_view| true);
    }
}

/// The blob table of a value, copied out before it is looked at.
fn table_of(view: &View) -> Result<BlobTable, Error> {
    let head = BlobTable::head_len(&copy(view, 8)).map_err(fault::of_table)?;
    BlobTable::parse(&copy(view, head), view.len()).map_err(fault::of_table)
}

fn copy(view: &View, len: usize) -> Vec<u8> {
    view.get(..len).unwrap_or(view).to_vec()
}

/// The lengths of the blobs of one object; `None` is a miss.
pub(crate) fn meta(client: &Client, key: &[u8]) -> Result<Option<Vec<usize>>, Error> {
    let Some(size) = client.size(key)? else {
        return Ok(None);
    };
    let part = |len: usize| {
        let len = Some((len as u64).min(size));
        let options = GetOptions {
            len,
            ..GetOptions::default()
        };
        client.get(key, &options)
    };
    let Some(head) = part(8)? else {
        return Ok(None);
    };
    let head = BlobTable::head_len(&head).map_err(fault::of_table)?;
    let Some(head) = part(head)? else {
        return Ok(None);
    };
    let object_bytes = usize::try_from(size).unwrap_or(usize::MAX);
    let table = BlobTable::parse(&head, object_bytes).map_err(fault::of_table)?;
    Ok(Some(table.blobs().iter().map(|(_, len)| *len).collect()))
}
