//! Random transfers between several processes: no wrong byte, no leak, no deadlock.

use crate::worker::{Backend, Stage, Worker};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Each round every process offers some objects, then all get a random choice of the others'.
fn rounds(backend: Backend, processes: u64, rounds: u64, keys: u64) -> u64 {
    let stage = Stage::new(backend, &[("PRESET", "instant"), ("JITTER_US", "0")]);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut workers: Vec<Worker> = (0..processes)
        .map(|card| stage.start(u32::try_from(card).unwrap()))
        .collect();
    let shapes = ["700", "72000x3", "16384x5,9", "1x30,40000"];
    let mut transfers = 0;
    for round in 0..rounds {
        let shape = shapes[usize::try_from(random.below(4)).unwrap()];
        let name = |owner: usize, key: u64| format!("s{round}-{owner}-{key}");
        for (owner, worker) in workers.iter_mut().enumerate() {
            for key in 0..keys {
                worker.order(&format!("put {} {shape} {round}", name(owner, key)));
            }
        }
        for worker in &mut workers {
            for _ in 0..keys {
                assert_eq!(worker.answer(), "ok");
            }
        }
        let mut asked = Vec::new();
        for (own, worker) in workers.iter_mut().enumerate() {
            let mut wanted = std::collections::BTreeSet::new();
            for _ in 0..keys * 2 {
                let owner = usize::try_from(random.below(processes)).unwrap();
                if owner != own {
                    wanted.insert((owner, random.below(keys)));
                }
            }
            let mut wanted: Vec<_> = wanted.into_iter().collect();
            for at in (1..wanted.len()).rev() {
                wanted.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
            }
            let names: Vec<_> = wanted.iter().map(|one| name(one.0, one.1)).collect();
            asked.push(names.len());
            if !names.is_empty() {
                worker.order(&format!("get {} {shape} {round} 50000", names.join(",")));
            }
        }
        for (worker, count) in workers.iter_mut().zip(&asked) {
            if *count > 0 {
                assert_eq!(
                    worker.answer(),
                    vec!["ok"; *count].join(" "),
                    "round {round}"
                );
                transfers += *count as u64;
            }
        }
        for (owner, worker) in workers.iter_mut().enumerate() {
            for key in 0..keys {
                assert_eq!(
                    worker.ask(&format!("delete {}", name(owner, key))),
                    "Ok(true)"
                );
            }
        }
    }
    for worker in workers {
        worker.finish();
    }
    transfers
}

#[test]
fn random_transfers_between_processes_are_right() {
    assert!(rounds(Backend::Host, 4, 12, 5) >= 200);
    assert!(rounds(Backend::Simulated, 4, 6, 4) >= 60);
}

#[test]
#[ignore = "long: make test-long"]
fn a_hundred_thousand_random_transfers_are_right() {
    let mut transfers = 0;
    while transfers < 90_000 {
        transfers += rounds(Backend::Host, 6, 200, 12);
    }
    while transfers < 100_000 {
        transfers += rounds(Backend::Simulated, 6, 50, 10);
    }
    println!("{transfers} transfers");
}
