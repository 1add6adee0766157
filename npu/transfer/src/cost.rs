//! What copies cost on this card: a small model, measured at start.

use std::time::{Duration, Instant};

use chariot_device::{
    CopyBatch, Device, DeviceError, DeviceMemory, Direction, HostMemory, Stream, Submission,
};

/// Bytes of one entry while measuring; the fragments that matter are of this order.
const ENTRY: usize = 64 << 10;
/// Entries of the batch that tells the cost of one.
const ENTRIES: usize = 32;
/// Bytes of the copy that tells the rate.
const LARGE: usize = 8 << 20;
/// How often each is measured; the quickest counts, since others can only disturb.
const ROUNDS: u32 = 5;
/// Longest wait for one measurement.
const MOST: Duration = Duration::from_secs(20);

/// Cost of a call with entries, beside their bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallCost {
    /// Nanoseconds of the call.
    pub fixed_ns: f64,
    /// Nanoseconds of each entry.
    pub entry_ns: f64,
}

impl CallCost {
    fn of(&self, entries: usize) -> f64 {
        self.fixed_ns + self.entry_ns * entries as f64
    }
}

/// What copies cost. Rates are bytes per nanosecond (so GB/s), for host to device and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Rate of one large copy from page-locked memory: into the card, out of it.
    pub bytes_per_ns: [f64; 2],
    /// One queued call a copy.
    pub each: CallCost,
    /// One call that queues a batch; none where the driver has no such call.
    pub queued: Option<CallCost>,
    /// One synchronous call for a batch; none where the driver has no such call.
    pub direct: Option<CallCost>,
    /// Copies within the card, over the gathering streams of one lane together.
    pub local: CallCost,
    /// Rate of copies within the card.
    pub local_bytes_per_ns: f64,
}

/// Where a core's model comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Calibration {
    /// Measured on the card, some milliseconds.
    Measured,
    /// Given, for tests and for cards whose time is not this machine's.
    Fixed(CostModel),
}

impl CostModel {
    fn bytes_ns(&self, direction: Direction, bytes: u64) -> f64 {
        let rate = match direction {
            Direction::HostToDevice => self.bytes_per_ns[0],
            Direction::DeviceToHost => self.bytes_per_ns[1],
            Direction::DeviceToDevice => self.local_bytes_per_ns,
        };
        bytes as f64 / rate
    }

    /// Nanoseconds of a loop of single copies.
    #[must_use]
    pub fn each_ns(&self, direction: Direction, entries: usize, bytes: u64) -> f64 {
        self.each.of(entries) + self.bytes_ns(direction, bytes)
    }

    /// Nanoseconds of a queued batch, where there is one.
    #[must_use]
    pub fn queued_ns(&self, direction: Direction, entries: usize, bytes: u64) -> Option<f64> {
        Some(self.queued?.of(entries) + self.bytes_ns(direction, bytes))
    }

    /// Nanoseconds of a synchronous batch, where there is one.
    #[must_use]
    pub fn direct_ns(&self, direction: Direction, entries: usize, bytes: u64) -> Option<f64> {
        Some(self.direct?.of(entries) + self.bytes_ns(direction, bytes))
    }

    /// Nanoseconds of gathering or scattering `entries` with `large` large copies.
    #[must_use]
    pub fn gathered_ns(
        &self,
        direction: Direction,
        entries: usize,
        large: usize,
        bytes: u64,
    ) -> f64 {
        let within = self.local.of(entries) + bytes as f64 / self.local_bytes_per_ns;
        within + self.each_ns(direction, large, bytes)
    }

    /// The fastest rate of a direction in bytes per second, for reports.
    #[must_use]
    pub fn peak(&self, direction: Direction) -> f64 {
        1e9 * match direction {
            Direction::HostToDevice => self.bytes_per_ns[0],
            Direction::DeviceToHost => self.bytes_per_ns[1],
            Direction::DeviceToDevice => self.local_bytes_per_ns,
        }
    }

    /// Measures a card: some tens of megabytes of copies.
    ///
    /// # Errors
    /// The card's: without memory for a measurement there is no core.
    pub(crate) fn measure(device: &Device, gathering: &[Stream]) -> Result<Self, DeviceError> {
        let bench = Bench {
            device,
            stream: device.stream()?,
            gathering,
            card: device.alloc(LARGE)?,
            second: device.alloc(ENTRY * ENTRIES)?,
            host: device.alloc_host(LARGE)?,
        };
        bench.warm()?;
        let (into, out) = (Direction::HostToDevice, Direction::DeviceToHost);
        let rates = [bench.rate(into)?, bench.rate(out)?];
        let form = device.capabilities().batch;
        let call = |way: Way| bench.call(way, rates[0]);
        let local = if gathering.is_empty() {
            CallCost {
                fixed_ns: f64::MAX,
                entry_ns: 0.0,
            }
        } else {
            bench.local()?
        };
        Ok(Self {
            bytes_per_ns: rates,
            each: call(Way::Each)?,
            queued: if form.queued {
                Some(call(Way::Queued)?)
            } else {
                None
            },
            direct: if form.direct {
                Some(call(Way::Direct)?)
            } else {
                None
            },
            local,
            // What copies within a card cost by the byte is hidden in `local` at this entry size.
            local_bytes_per_ns: 1000.0,
        })
    }
}

#[derive(Clone, Copy)]
enum Way {
    Each,
    Queued,
    Direct,
}

struct Bench<'a> {
    device: &'a Device,
    stream: Stream,
    gathering: &'a [Stream],
    card: DeviceMemory,
    second: DeviceMemory,
    host: HostMemory,
}

/// The quickest of some rounds, in nanoseconds.
fn quickest(mut work: impl FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        work()?;
        best = best.min(begun.elapsed().as_nanos() as f64);
    }
    Ok(best)
}

impl Bench<'_> {
    /// The first copies of a process pay for pages and threads.
    fn warm(&self) -> Result<(), DeviceError> {
        for direction in [Direction::HostToDevice, Direction::DeviceToHost] {
            self.large(direction, LARGE)?;
        }
        Ok(())
    }

    fn large(&self, direction: Direction, len: usize) -> Result<(), DeviceError> {
        let mut batch = CopyBatch::new(direction);
        batch.push((&self.card, 0), (&self.host, 0), len)?;
        self.stream.submit(batch, Submission::Each)?;
        self.stream.wait(Some(MOST))
    }

    /// Bytes per nanosecond of the difference between a large copy and one of half its size.
    fn rate(&self, direction: Direction) -> Result<f64, DeviceError> {
        let whole = quickest(|| self.large(direction, LARGE))?;
        let half = quickest(|| self.large(direction, LARGE / 2))?;
        // At least 1 ns, and no faster than memory: a disturbed measurement must not say infinity.
        let ns = (whole - half).max(LARGE as f64 / 2.0 / 1000.0);
        Ok(LARGE as f64 / 2.0 / ns)
    }

    fn entries(&self, count: usize) -> Result<CopyBatch, DeviceError> {
        let mut batch = CopyBatch::new(Direction::HostToDevice);
        for entry in 0..count {
            // Every second entry, so that no driver can join them.
            let at = entry * ENTRY * 2;
            batch.push((&self.card, at), (&self.host, at), ENTRY)?;
        }
        Ok(batch)
    }

    fn call(&self, way: Way, rate: f64) -> Result<CallCost, DeviceError> {
        let copy = |count: usize| {
            let batch = self.entries(count)?;
            match way {
                Way::Direct => return self.device.copy_now(batch),
                Way::Queued => self.stream.submit(batch, Submission::Batch)?,
                Way::Each => self.stream.submit(batch, Submission::Each)?,
            }
            self.stream.wait(Some(MOST))
        };
        let (one, many) = (quickest(|| copy(1))?, quickest(|| copy(ENTRIES))?);
        Ok(call_cost(one, many, ENTRY as f64 / rate))
    }

    fn local(&self) -> Result<CallCost, DeviceError> {
        let copy = |count: usize| {
            for entry in 0..count {
                let mut batch = CopyBatch::new(Direction::DeviceToDevice);
                let at = entry * ENTRY;
                batch.push_local((&self.second, at), (&self.card, at), ENTRY)?;
                let stream = &self.gathering[entry % self.gathering.len()];
                stream.submit(batch, Submission::Each)?;
            }
            let used = self.gathering.len().min(count);
            self.gathering[..used]
                .iter()
                .try_for_each(|stream| stream.wait(Some(MOST)))
        };
        let (one, many) = (quickest(|| copy(1))?, quickest(|| copy(ENTRIES))?);
        Ok(call_cost(one, many, 0.0))
    }
}

/// Splits two measurements into the call and the entry.
fn call_cost(one_ns: f64, many_ns: f64, bytes_ns: f64) -> CallCost {
    let more = (ENTRIES - 1) as f64;
    let entry_ns = ((many_ns - one_ns) / more - bytes_ns).max(0.0);
    let fixed_ns = (one_ns - bytes_ns - entry_ns).max(0.0);
    CallCost { fixed_ns, entry_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_tell_call_and_entry() {
        let cost = call_cost(5_000.0 + 700.0 + 1_600.0, 5_000.0 + 32.0 * 2_300.0, 1_600.0);
        assert!((cost.fixed_ns - 5_000.0).abs() < 1.0, "{cost:?}");
        assert!((cost.entry_ns - 700.0).abs() < 1.0, "{cost:?}");
    }

    #[test]
    fn a_disturbed_measurement_is_no_negative_cost() {
        let cost = call_cost(9_000.0, 1_000.0, 1_600.0);
        assert_eq!((cost.entry_ns, cost.fixed_ns), (0.0, 7_400.0));
    }
}
