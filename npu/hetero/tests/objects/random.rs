//! Random calls of several clients against a model: no wrong byte, nothing lost.

use std::collections::HashMap;

use chariot_client::{GetOptions, SetOptions, WriteMode};
use chariot_hetero::{BlobList, Stored};
use chariot_tests_node::random::Random;

use crate::process::{ascend, is_alone};
use crate::rig::Rig;

/// Keys of each thread.
const KEYS: u64 = 24;

fn lens(random: &mut Random) -> Vec<usize> {
    let count = 1 + random.below(40);
    let most = [16, 5_000, 100_000][usize::try_from(random.below(3)).unwrap()];
    (0..count)
        .map(|_| 1 + usize::try_from(random.below(most)).unwrap())
        .collect()
}

/// One thread's calls on keys of its own, each checked.
fn run(rig: &Rig, thread: u64, calls: u64) {
    let mut random = Random::new(thread + 1);
    let mut model: HashMap<u64, (Vec<usize>, u64)> = HashMap::new();
    for call in 0..calls {
        let number = random.below(KEYS);
        let key = format!("random/{thread}/{number}").into_bytes();
        match random.below(4) {
            0 => {
                let had = rig.hetero.delete(&[&key]).unwrap()[0].clone().unwrap();
                assert_eq!(had, model.remove(&number).is_some());
            },
            1 | 2 if !model.contains_key(&number) => {
                let (lens, seed) = (lens(&mut random), (thread << 32) | call);
                rig.set(&key, &rig.filled(&lens, seed));
                model.insert(number, (lens, seed));
            },
            1 | 2 => {
                let list = [rig.empty(&lens(&mut random))];
                let options = SetOptions {
                    mode: WriteMode::None,
                    ..SetOptions::default()
                };
                let out = rig.hetero.mset_d2h(&[&key], &list, &options).unwrap();
                assert_eq!(out[0].clone().unwrap(), Stored::Existed);
            },
            _ => read_some(rig, &mut random, thread, &model),
        }
    }
}

fn read_some(rig: &Rig, random: &mut Random, thread: u64, model: &HashMap<u64, (Vec<usize>, u64)>) {
    let numbers: Vec<u64> = (0..=random.below(6)).map(|_| random.below(KEYS)).collect();
    let keys: Vec<Vec<u8>> = numbers
        .iter()
        .map(|number| format!("random/{thread}/{number}").into_bytes())
        .collect();
    let list = |number: &u64| match model.get(number) {
        Some((lens, _)) => rig.empty(lens),
        None => rig.empty(&[8]),
    };
    let lists: Vec<BlobList> = numbers.iter().map(list).collect();
    let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let out = rig
        .hetero
        .mget_h2d(&borrowed, &lists, &GetOptions::default());
    for ((number, list), outcome) in numbers.iter().zip(&lists).zip(out.unwrap()) {
        let known = model.get(number);
        assert_eq!(outcome.unwrap(), known.is_some());
        if let Some((_, seed)) = known {
            rig.check(list, *seed);
        }
    }
}

#[test]
fn random_calls_of_several_clients_agree_with_a_model() {
    let test = "random::random_calls_of_several_clients_agree_with_a_model";
    if is_alone(test, &[]) {
        let daemon = crate::rig::start();
        let runtime = ascend();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (daemon, runtime) = (&daemon, runtime.clone());
                scope.spawn(move || {
                    run(
                        &Rig::over(crate::rig::connect(daemon), runtime),
                        thread,
                        150,
                    );
                });
            }
        });
    }
}
