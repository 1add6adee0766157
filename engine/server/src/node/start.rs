//! How a node starts: shards with their bells, mailboxes and listeners first, then the default
//! tenant, then the doors.
//!
//! Lives on: control thread, inside its tokio runtime. The order matters: the life word is taken
//! before any client can come, every shard runs before the unix socket is bound, and the default
//! tenant's memory begins to be populated in the background, so that a node is ready at once
//! whatever its arena's size.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chariot_base::ShardId;
use chariot_base::limits::GRANULE_BYTES;
use chariot_memory::{GranuleLedger, LedgerOptions};
use chariot_shard::{
    ControlReceiver, ControlSender, Mailboxes, ShardContext, ShardExecutor, ShardJoin, ShardSeat,
    ShardSpec, SpinSetting, Watchdog, control_to_shard, mailboxes, measure_spin_us,
};
use chariot_shm::LifeThread;
use chariot_shm::index::IndexOptions;
use chariot_ssd::SsdOptions;
use chariot_store::{Policy, entries_for};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::call::Reply;
use crate::control::handshake::DEFAULT_TENANT;
use crate::control::registry::Registry;
use crate::control::tenants::{TenantShape, Tenants};
use crate::control::{random, unix};
use crate::granules::GranuleHome;
use crate::mail::Mail;
use crate::message::ShardMessage;
use crate::node::ssd::{Partitions, ShardPartitions};
use crate::node::{Node, Shared, TenantWanted, orders, random_u64};
use crate::pass::{OrderHandler, ShardPass};
use crate::seam::{EvictionPolicy, NodeOptions, SpinBudget, StartError};
use crate::shard::Shard;
use crate::tcp::listener;
use crate::tier;

/// Messages between two shards before they overflow into the sender's queue.
const MAILBOX_CAPACITY: usize = 1024;
/// Orders and populate results that one shard has not read.
const ORDERS_CAPACITY: usize = 1024;
/// How often the watchdog looks (design §4).
const WATCHDOG_TICK: Duration = Duration::from_millis(20);

fn failed(cause: impl Into<String>, remedy: impl Into<String>) -> StartError {
    StartError {
        cause: cause.into(),
        remedy: remedy.into(),
    }
}

fn kernel(what: &str) -> impl Fn(io::Error) -> StartError + '_ {
    move |error| {
        failed(
            format!("{what}: {error}"),
            "raise RLIMIT_NOFILE or the memory limit, see --doctor",
        )
    }
}

/// What one shard's thread starts with.
struct Seat {
    seat: ShardSeat,
    boxes: Mailboxes<ShardMessage>,
    orders: ControlReceiver<ShardMessage>,
    listener: TcpListener,
    ready: oneshot::Sender<()>,
    ssd: Option<(ShardPartitions, SsdOptions)>,
}

impl Node {
    /// Starts a node. Call it inside the control thread's tokio runtime, which then serves the unix
    /// socket.
    ///
    /// # Errors
    /// [`StartError`] with cause and remedy; nothing is left running.
    ///
    /// # Panics
    /// When the options name more than 64 shards.
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let boot_id = random_u64().map_err(kernel("random bytes"))?;
        let (life, life_page) = LifeThread::start(boot_id, 1).map_err(kernel("life page"))?;
        let (wanted, wishes) = mpsc::unbounded_channel();
        let spin_us = measure_spin_us(options.shards.first().map(|shard| shard.cpu));
        let shard_count = u16::try_from(options.shards.len()).expect("at most 64 shards");
        let ssd = options.ssd.as_ref();
        let partitions = ssd
            .map(|ssd| Partitions::open(ssd, shard_count))
            .transpose()?;
        let (mut seats, senders, watchdog, readies) = seats(&options, spin_us)?;
        if let (Some(ssd), Some(partitions)) = (ssd, &partitions) {
            for (number, seat) in (0..shard_count).zip(&mut seats) {
                let files = partitions.for_shard().map_err(kernel("SSD partitions"))?;
                let options = partitions.store_options(ShardId(number), shard_count, ssd);
                seat.ssd = Some((files, options));
            }
        }
        let identity = partitions.map(|partitions| partitions.identity);
        let mut shape = shape(&options, boot_id);
        shape.secret = identity.map(|identity| identity.secret);
        let shared = Arc::new(Shared {
            registry: Registry::new(options.sessions_max, options.session_memory_bytes),
            boot_id,
            spin_us,
            senders,
            tenants: tokio::sync::Mutex::new(Tenants::new(shape)),
            known: Mutex::new(HashMap::new()),
            wanted,
            epoch: identity.map_or(1, |identity| identity.next_epoch),
            ssd_retired: AtomicU64::new(0),
            life_page,
            draining: AtomicBool::new(false),
            nonce_seed: random::bytes().map_err(kernel("random bytes"))?,
            nonce_count: AtomicU64::new(0),
            options,
        });
        let joins = spawn(&shared, seats)?;
        await_ready(readies).await?;
        let default = shared.tenant(DEFAULT_TENANT).await;
        default.map_err(|error| failed(error.to_string(), "see --doctor"))?;
        let listener = bind_unix(&shared.options)?;
        tokio::spawn(unix::serve(Arc::clone(&shared), listener));
        tokio::spawn(serve_wishes(Arc::clone(&shared), wishes));
        let watchdog_kicks: Arc<[AtomicU64]> = joins.iter().map(|_| AtomicU64::new(0)).collect();
        tokio::spawn(watch(watchdog, Arc::clone(&watchdog_kicks)));
        Ok(Self {
            shared,
            joins: Mutex::new(joins),
            life: Mutex::new(Some(life)),
            watchdog_kicks,
        })
    }
}

fn shape(options: &NodeOptions, boot_id: u64) -> TenantShape {
    let shard_count = u16::try_from(options.shards.len()).expect("at most 64 shards");
    let ledger = GranuleLedger::new(ledger_options(options));
    TenantShape {
        virtual_granules: ledger.virtual_granules(),
        hugepages: options.hugepages,
        secret: None,
        shard_count,
        index_options: IndexOptions {
            boot_id,
            // Sparse: what a tenant may fill of it is decided by its shard (`metadata.rs`).
            ..IndexOptions::new(records_per_shard(options))
        },
    }
}

/// Records that a shard's share of the metadata memory holds, over all tenants.
pub(super) fn records_per_shard(options: &NodeOptions) -> u32 {
    let policy = match options.eviction {
        EvictionPolicy::Lru => Policy::Lru,
        EvictionPolicy::S3Fifo => Policy::S3Fifo,
    };
    entries_for(options.metadata_bytes / options.shards.len() as u64, policy)
}

fn ledger_options(options: &NodeOptions) -> LedgerOptions {
    LedgerOptions {
        granule_count: u32::try_from(options.memory_bytes / GRANULE_BYTES)
            .expect("below 2^32 granules"),
        shard_count: u16::try_from(options.shards.len()).expect("at most 64 shards"),
    }
}

type Seats = (
    Vec<Seat>,
    Vec<ControlSender<ShardMessage>>,
    Watchdog,
    Vec<oneshot::Receiver<()>>,
);

fn seats(options: &NodeOptions, auto_spin_us: u32) -> Result<Seats, StartError> {
    let mut seats = Vec::new();
    for (number, placement) in options.shards.iter().enumerate() {
        let spec = ShardSpec {
            cpu: Some(placement.cpu),
            spin: match options.spin {
                SpinBudget::Auto => SpinSetting::Auto {
                    spin_us: auto_spin_us,
                },
                SpinBudget::Fixed(spin) => SpinSetting::Fixed {
                    spin_us: u32::try_from(spin.as_micros()).unwrap_or(u32::MAX),
                },
            },
            ..ShardSpec::new(ShardId(u16::try_from(number).expect("at most 64 shards")))
        };
        seats.push(ShardSeat::new(spec).map_err(kernel("a shard's bell"))?);
    }
    let watchdog = Watchdog::new(&seats);
    let bells: Vec<_> = seats.iter().map(ShardSeat::bell).collect();
    let mesh = mailboxes::<ShardMessage>(&bells, MAILBOX_CAPACITY);
    let mut all = Vec::new();
    let mut senders = Vec::new();
    let mut readies = Vec::new();
    for ((seat, boxes), bell) in seats.into_iter().zip(mesh).zip(bells) {
        let (sender, orders) = control_to_shard(bell, ORDERS_CAPACITY);
        let (ready, started) = oneshot::channel();
        let listener = bind_tcp(options.listen)?;
        senders.push(sender);
        readies.push(started);
        all.push(Seat {
            seat,
            boxes,
            orders,
            listener,
            ready,
            ssd: None,
        });
    }
    Ok((all, senders, watchdog, readies))
}

/// Binds one listener of the node's address; every shard has one, and the kernel spreads
/// connections over them.
fn bind_tcp(address: SocketAddr) -> Result<TcpListener, StartError> {
    chariot_shard::listen(address).map_err(|error| {
        failed(
            format!("cannot listen on {address}: {error}"),
            "stop who holds the address, or choose another with --listen",
        )
    })
}

fn bind_unix(options: &NodeOptions) -> Result<UnixListener, StartError> {
    let path = &options.socket;
    let listener = UnixListener::bind(path).map_err(|error| {
        failed(
            format!("cannot bind the unix socket {}: {error}", path.display()),
            "choose another path with --socket, at most 107 bytes long, in a directory that exists",
        )
    })?;
    // Who may connect is decided by credentials of the peer, not by the socket file's mode.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(path, open).map_err(kernel("permissions of the unix socket"))?;
    Ok(listener)
}

fn spawn(
    shared: &Arc<Shared>,
    seats: Vec<Seat>,
) -> Result<Vec<ShardJoin<io::Result<()>>>, StartError> {
    let mut joins = Vec::new();
    for seat in seats {
        let Seat {
            seat,
            boxes,
            orders,
            listener,
            ready,
            ssd,
        } = seat;
        let shared = Arc::clone(shared);
        let join = ShardExecutor::spawn(seat, move |context| {
            let doors = (listener, ready);
            main(shared, context, boxes, orders, doors, ssd)
        });
        joins.push(join.map_err(|error| failed(error.to_string(), "see chariotd --doctor"))?);
    }
    Ok(joins)
}

async fn await_ready(readies: Vec<oneshot::Receiver<()>>) -> Result<(), StartError> {
    for ready in readies {
        ready.await.map_err(|_ended| {
            failed(
                "a shard ended while it started",
                "its cause stands in the log above; see chariotd --doctor",
            )
        })?;
    }
    Ok(())
}

/// The main task of one shard.
async fn main(
    shared: Arc<Shared>,
    context: ShardContext,
    boxes: Mailboxes<ShardMessage>,
    orders: ControlReceiver<ShardMessage>,
    (listener, ready): (TcpListener, oneshot::Sender<()>),
    ssd: Option<(ShardPartitions, SsdOptions)>,
) -> io::Result<()> {
    let id = context.shard();
    let home = if id == ShardId(0) {
        Some(home(&shared)?)
    } else {
        None
    };
    let mail = Mail::new(id, boxes);
    let shard = Rc::new(RefCell::new(Shard::new(id, shared, mail, home)));
    if let Some((partitions, options)) = ssd {
        tier::open(&shard, &context, partitions, options)?;
    }
    context
        .spawn_local(listener::serve(
            Rc::clone(&shard),
            context.clone(),
            listener,
        ))
        .detach();
    if ready.send(()).is_err() {
        // The control thread has given up on this start.
        return Ok(());
    }
    let runtime = context.clone();
    let handle_order: OrderHandler = Box::new(move |order_context, order| {
        orders::handle(order_context, &runtime, order);
    });
    let mut pass = ShardPass::new(shard, context.ring(), orders, handle_order);
    context.run(&mut pass).await
}

fn home(shared: &Arc<Shared>) -> io::Result<GranuleHome> {
    let to_home = shared.senders[0].clone();
    GranuleHome::new(ledger_options(&shared.options), move |done| {
        let mut message = ShardMessage::Populated(done);
        // 16 jobs are under way at most and the queue holds 1,024 messages: full means that the
        // home stands still.
        while let Err(back) = to_home.try_send(message) {
            message = back;
            std::thread::yield_now();
        }
    })
}

/// Makes tenants that connections ask for.
async fn serve_wishes(shared: Arc<Shared>, mut wishes: mpsc::UnboundedReceiver<TenantWanted>) {
    while let Some(TenantWanted {
        name,
        shard,
        ticket,
    }) = wishes.recv().await
    {
        let status = match shared.tenant(&name).await {
            Ok(_) => chariot_proto::Status::Ok,
            Err(error) => {
                tracing::warn!(%error, "a tenant could not be made");
                chariot_proto::Status::Busy
            },
        };
        let reply = ShardMessage::Reply {
            ticket,
            tenant: chariot_base::TenantId(0),
            from: shard,
            reply: Reply::status(status),
        };
        shared.send(usize::from(shard.0), reply).await;
    }
}

/// Rings shards that stand still.
async fn watch(mut watchdog: Watchdog, kicks: Arc<[AtomicU64]>) -> ! {
    let mut ticks = tokio::time::interval(WATCHDOG_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watchdog.tick();
        // The watchdog counts over all shards; the first one stands for them.
        kicks[0].store(watchdog.stats().kicks, Ordering::Relaxed);
    }
}
