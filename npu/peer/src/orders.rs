//! The thread that takes the directory's orders and puts them where they belong. It never waits
//! for a card or a link, so that a port always hears.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::device::{DeviceOrder, DevicePort};

use crate::state::{Arriving, Outgoing, Receive, Serve, Shared, State};
use crate::{receive, send};

/// How long one question to the directory waits: a port that closes is held up by it.
const QUESTION: Duration = Duration::from_millis(250);
/// Between two questions to a directory that cannot be reached.
const PAUSE: Duration = Duration::from_millis(20);
/// Objects that moved to a receiver and that nobody has asked about.
const MOVED_MAX: usize = 4096;

/// Runs until the port closes.
pub(crate) fn run(shared: &Arc<Shared>) {
    loop {
        if shared.lock().closing {
            return;
        }
        match shared.directory.next_order(shared.card(), QUESTION) {
            Ok(Some(order)) => obey(shared, order),
            Ok(None) => {},
            Err(_) => {
                // What the directory knew of this port ended with the session: so do the links.
                shared.change(|state| {
                    if !state.lost {
                        state.lost = true;
                        begin_anew(state);
                    }
                });
                let until = Instant::now() + PAUSE;
                let mut state = shared.lock();
                while !state.closing && Instant::now() < until {
                    state = shared.wait(state, until);
                }
                continue;
            },
        }
        shared.lock().lost = false;
    }
}

/// Breaks every link and fails every transfer.
fn begin_anew(state: &mut State) {
    for arriving in state.arriving.values_mut() {
        arriving.broken = true;
    }
    for outgoing in state.outgoing.values_mut() {
        outgoing.serves.clear();
        outgoing.all_broken = true;
    }
    for incoming in state.incoming.values_mut() {
        incoming.failed = true;
    }
}

fn obey(shared: &Arc<Shared>, order: DeviceOrder) {
    match order {
        DeviceOrder::Serve {
            hash,
            to,
            number,
            first,
        } => serve(shared, hash, to, (number, first)),
        DeviceOrder::Stop {
            peer,
            sends: true,
            number,
        } => shared.change(|state| {
            if let Some(outgoing) = state.outgoing.get_mut(&peer) {
                outgoing.serves.retain(|serve| serve.number != number);
                outgoing.stopped.push(number);
            }
        }),
        DeviceOrder::Stop {
            peer,
            sends: false,
            number,
        } => shared.change(|state| {
            if let Some(incoming) = state.incoming.get_mut(&number)
                && incoming.provider.is_none_or(|provider| provider == peer)
            {
                incoming.failed = true;
            }
        }),
        DeviceOrder::Moved { hash } => shared.change(|state| {
            state.objects.remove(&hash);
            if state.moved.len() >= MOVED_MAX {
                state.moved.remove(0);
            }
            state.moved.push(hash);
        }),
        DeviceOrder::Dropped { hash } => {
            shared.change(|state| state.objects.remove(&hash));
        },
        DeviceOrder::Connect { link, peer, sends } => connect(shared, link, peer, sends),
        DeviceOrder::Broken { link, peer } => shared.change(|state| {
            if let Some(arriving) = state.arriving.get_mut(&link) {
                arriving.broken = true;
            } else if let Some(outgoing) = state.outgoing.get_mut(&peer) {
                outgoing.broken.push(link);
            }
        }),
        DeviceOrder::Receive {
            link,
            number,
            first,
            count,
            ticket,
        } => {
            let receive = Receive {
                number,
                first,
                count,
                ticket,
            };
            // Of a link that is no more here: the sender hears of it by the break.
            shared.change(|state| {
                if let Some(arriving) = state.arriving.get_mut(&link) {
                    arriving.receives.push_back(receive);
                }
            });
        },
        DeviceOrder::Reset => shared.change(begin_anew),
    }
}

fn serve(shared: &Arc<Shared>, name: (u64, u64), to: DevicePort, (number, first): (u64, u32)) {
    let served = shared.change(|state| {
        let object = Arc::clone(state.objects.get(&name)?);
        object.serve();
        let serve = Serve {
            object,
            number,
            next: first.into(),
        };
        if !state.outgoing.contains_key(&to) {
            let started = shared.spawn(state, "chariot-send", move |shared| {
                send::run(&shared, to);
            });
            if !started {
                return None;
            }
        }
        let outgoing = state.outgoing.entry(to).or_insert_with(Outgoing::default);
        outgoing.serves.push_back(serve);
        Some(())
    });
    if served.is_none() {
        // It was deleted here a moment ago.
        drop(shared.directory.refuse(shared.card(), to, number));
    }
}

fn connect(shared: &Arc<Shared>, link: u64, peer: DevicePort, sends: bool) {
    let stands = shared.change(|state| {
        if sends {
            let outgoing = state.outgoing.get_mut(&peer)?;
            outgoing.connect = Some(link);
            return Some(());
        }
        if state.closing {
            return None;
        }
        state.arriving.insert(link, Arriving::default());
        let started = shared.spawn(state, "chariot-receive", move |shared| {
            receive::run(&shared, link, peer);
        });
        if !started {
            state.arriving.remove(&link);
            return None;
        }
        Some(())
    });
    if stands.is_none() {
        shared.break_link(link);
    }
}
