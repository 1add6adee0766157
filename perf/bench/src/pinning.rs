//! Which CPUs a thread may run on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Most CPUs told apart.
const CPUS_MAX: usize = CpuSet::MAX_CPU;

/// Parses `0,2-3` into CPU numbers, in the order given.
pub(crate) fn parse_cpus(text: &str) -> Result<Vec<usize>, Failure> {
    let refuse = |part: &str| {
        let remedy = format!("give numbers below {CPUS_MAX} and ranges, such as 0,2-3");
        Failure::new(
            format!("`{part}` in the CPU list `{text}` is no CPU"),
            remedy,
        )
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<usize>()) else {
            return Err(refuse(part));
        };
        if first > last || last >= CPUS_MAX {
            return Err(refuse(part));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// CPUs that this thread may use, in order.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CPUS_MAX).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Keeps this thread on one CPU.
pub(crate) fn pin_to(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| {
        let cause = format!("cannot run on CPU {cpu} ({})", io::Error::from(error));
        Failure::new(
            cause,
            format!(
                "this process may use {:?}: choose among them",
                usable_cpus()
            ),
        )
    })
}

/// Pins thread number `index` to its CPU of the list, round and round; an empty list pins nothing.
pub(crate) fn pin_client(cpus: &[usize], index: usize) -> Result<(), Failure> {
    if cpus.is_empty() {
        return Ok(());
    }
    pin_to(cpus[index % cpus.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_parsed_in_order() {
        assert_eq!(parse_cpus("3").unwrap(), [3]);
        assert_eq!(parse_cpus("4,0-2").unwrap(), [4, 0, 1, 2]);
    }

    #[test]
    fn nonsense_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "``"),
            ("1,x", "`x`"),
            ("3-1", "`3-1`"),
            ("0,99999", "`99999`"),
        ] {
            let shown = parse_cpus(text).unwrap_err().to_string();
            assert!(shown.contains(part) && shown.contains("such as"), "{shown}");
        }
    }

    #[test]
    fn pinned_thread_may_use_one_cpu() {
        let seen = std::thread::spawn(|| {
            let cpu = usable_cpus()[0];
            pin_client(&[cpu], 5).unwrap();
            (cpu, usable_cpus())
        });
        let (cpu, usable) = seen.join().unwrap();
        assert_eq!(usable, [cpu]);
    }

    #[test]
    fn cpu_that_is_not_there_is_refused_with_the_choice() {
        let refused = std::thread::spawn(|| pin_to(CPUS_MAX - 1)).join().unwrap();
        let shown = refused.unwrap_err().to_string();
        assert!(shown.contains("choose among them"), "{shown}");
    }
}
