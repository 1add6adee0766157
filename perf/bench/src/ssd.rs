//! `ssd`: the SSD tier of a daemon beside fio, on the same file system at the same depth.
//!
//! ```text
//! fill beyond the memory ─► spill for a while ─► drain ─► read what lies on SSD ─► fio, write and read
//! ```
//! Bytes are those that the daemon's own counters saw on the device, processor time is that of its
//! process: a read that memory answered counts for neither. The time of one checksum of the bytes
//! is told apart, as fio has none.

mod daemon;
mod fio;
mod load;
mod report;

use std::time::Duration;

use crate::args::{SsdArgs, SsdWork};
use crate::cache::Cache;
use crate::command::{Outcome, json_line, print, seconds};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::pinning;
use daemon::Watched;
use fio::Fio;
use load::{Load, Shape};
use report::Row;

/// 1 MiB, one object a call.
const LARGE: Shape = Shape {
    name: "1 MiB",
    bytes: 1 << 20,
    batch: 1,
};
/// The layers of one block of a large model: 62 of 72 KiB in one call.
const BLOBS: Shape = Shape {
    name: "72 KiB x 62",
    bytes: 72 << 10,
    batch: 62,
};
/// One block of the device.
const SMALL: Shape = Shape {
    name: "4 KiB",
    bytes: 4 << 10,
    batch: 64,
};
/// Rest before each get of a shard that is to be parked, longer than any shard polls.
const REST: Duration = Duration::from_millis(5);

/// Runs the command.
pub(crate) fn command(args: &SsdArgs) -> Result<Outcome, Failure> {
    let duration = seconds(args.seconds)?;
    let cpus = args
        .client_cpus
        .as_deref()
        .map_or(Ok(Vec::new()), pinning::parse_cpus)?;
    let fio = Fio::new(args, duration)?;
    let watched = Watched::new(&args.admin, args.pid)?;
    let daemon = args.target.daemon()?;
    let connect = || daemon.connect();
    if !args.json {
        print(&Machine::here().line())?;
        print(Row::HEAD)?;
    }
    let mut run = Run {
        args,
        cpus,
        fio,
        watched,
        duration,
        flaws: 0,
    };
    pinning::pin_client(&run.cpus, 0)?;
    for work in &args.work {
        match work {
            SsdWork::Large => run.throughput(LARGE, connect()?)?,
            SsdWork::Blobs => run.throughput(BLOBS, connect()?)?,
            SsdWork::Small => run.latency(connect()?)?,
            SsdWork::Dram => run.foreground(&connect)?,
        }
    }
    Ok(if run.flaws == 0 {
        Outcome::Clean
    } else {
        Outcome::Flawed
    })
}

/// What all measurements share.
struct Run<'a> {
    args: &'a SsdArgs,
    cpus: Vec<usize>,
    fio: Fio,
    watched: Watched,
    duration: Duration,
    /// Errors and wrong bytes so far.
    flaws: u64,
}

impl Run<'_> {
    fn row(&self, row: &Row) -> Result<(), Failure> {
        if self.args.json {
            print(&json_line(row)?)
        } else {
            print(&row.line())
        }
    }

    fn throughput(&mut self, shape: Shape, cache: impl Cache) -> Result<(), Failure> {
        let mut load = Load::new(shape, cache);
        load.fill_beyond_memory(&self.watched, 0)?;
        let before = self.watched.look()?;
        load.write_for(self.duration)?;
        let spilled = self.watched.look()?.since(&before, "written");
        load::drain(&self.watched)?;
        let fio = self.fio.write(shape.bytes, self.args.depth)?;
        let crc = report::checksum_ns_per_byte(shape.bytes);
        self.row(&Row::throughput(
            "spill", &load, self.args, &spilled, &fio, crc,
        ))?;

        let before = self.watched.look()?;
        load.read_for(self.duration, self.args.depth, before.objects);
        let read = self.watched.look()?.since(&before, "read");
        let fio = self.fio.read(shape.bytes, self.args.depth)?;
        self.row(&Row::throughput("fill", &load, self.args, &read, &fio, crc))?;
        self.flaws += load.flaws();
        Ok(())
    }

    fn latency(&mut self, cache: impl Cache) -> Result<(), Failure> {
        let mut load = Load::new(SMALL, cache);
        load.fill_beyond_memory(&self.watched, LATENCY_KEYS)?;
        load::drain(&self.watched)?;
        self.fio.lay_out()?;
        let fio = self.fio.read(SMALL.bytes, 1)?;
        for (name, rest) in [("get awake", None), ("get parked", Some(REST))] {
            let before = self.watched.look()?;
            let latency = load.time_gets(self.duration, rest, before.objects);
            let read = self.watched.look()?.since(&before, "read");
            let share = read.hits / latency.gets.max(1) as f64;
            self.row(&Row::latency(name, &load, &latency, share, &fio))?;
        }
        self.flaws += load.flaws();
        Ok(())
    }

    /// Hits in memory, alone and beside a client that spills as fast as it goes.
    fn foreground<C: Cache>(
        &mut self,
        connect: &(impl Fn() -> Result<C, Failure> + Sync),
    ) -> Result<(), Failure> {
        let mut hot = Load::new(SMALL, connect()?);
        hot.write_keys(HOT_KEYS)?;
        let mut filler = Load::new(LARGE, connect()?);
        filler.fill_beyond_memory(&self.watched, 0)?;
        load::drain(&self.watched)?;
        hot.write_keys(HOT_KEYS)?;
        let idle = hot.time_hot(self.duration);
        let before = self.watched.look()?;
        let (duration, cpus) = (self.duration, &self.cpus);
        let busy = std::thread::scope(|scope| {
            let spilling = scope.spawn(|| {
                pinning::pin_client(cpus, 1)?;
                filler.write_for(duration)
            });
            let busy = hot.time_hot(duration);
            spilling
                .join()
                .expect("a client thread does not panic")
                .map(|()| busy)
        })?;
        let spilled = self.watched.look()?.since(&before, "written");
        self.row(&Row::foreground(&hot, &idle, &busy, &spilled))?;
        self.flaws += hot.flaws() + filler.flaws();
        Ok(())
    }
}

/// Keys of 4 KiB on SSD before a get is timed: none is read twice in a few seconds.
const LATENCY_KEYS: u64 = 40_000;
/// Keys in memory that are read while others spill.
const HOT_KEYS: u64 = 1024;

#[cfg(test)]
mod tests;
