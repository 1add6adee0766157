//! A made-up trace of multi-turn conversations, seeded.
//!
//! Shaped after the published conversation trace of a chat service (Qin et al., "Mooncake", FAST
//! '25, table of workloads; the trace itself is public). Its figures, and what this generator aims
//! at:
//!
//! | figure | published | here |
//! |---|---|---|
//! | requests a second | 12,031 in 3,537 s: 3.4 | 3.4, exponential gaps |
//! | tokens of a prompt, mean | 12,035 (median 6,909, p90 27,367, max 126,195) | same, log-normal |
//! | tokens of an answer, mean | 343 (max 2,000) | same, log-normal |
//! | blocks a request | 24 | follows |
//! | hit ratio of a cache without bounds | 0.37 (the paper says 40 %) | within 0.32 to 0.44 |
//! | blocks seen once | 76 % | within 60 to 85 % |
//! | common start | block 0 is in every request | same |
//!
//! A request is a turn of a conversation: a new one, or, Zipf-like, one of the recent ones (the
//! r-th most recent with weight 1/r). A turn adds the last answer and a new question to the
//! history; the blocks that the history fills keep their ids, the last, partial one is another
//! block next time. Published figures tell lengths and reuse, not who talks when: the Zipf law and
//! the number of turns are fitted to the hit ratio above.

use super::trace::{BLOCK_TOKENS, Request};
use crate::random::Random;

/// Mean time between requests.
const GAP_MS: f64 = 294.0;
/// Probability that a request starts a conversation.
const NEW_CONVERSATION: f64 = 0.56;
/// Conversations that may go on.
const RECENT_MAX: usize = 256;
/// First prompt: median and deviation of the logarithm.
const FIRST_TOKENS: (f64, f64) = (5_700.0, 1.15);
/// Later questions, with what is pasted into them.
const NEXT_TOKENS: (f64, f64) = (1_050.0, 1.35);
/// Answers.
const ANSWER_TOKENS: (f64, f64) = (270.0, 0.75);
/// Longest prompt and answer, as published.
const PROMPT_MAX: u64 = 126_195;
const ANSWER_MAX: u64 = 2_000;

/// A conversation that may go on.
#[derive(Debug)]
struct Conversation {
    /// Ids of the blocks that its history fills.
    full: Vec<u64>,
    /// Tokens of the history, the last answer included.
    tokens: u64,
}

/// Makes `count` requests.
pub(crate) fn generate(count: u64, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed);
    let mut recent: Vec<Conversation> = Vec::new();
    let mut next_id = 1;
    let mut clock_ms = 0.0;
    (0..count)
        .map(|_| {
            clock_ms += random.exponential(GAP_MS);
            let mut conversation = choose(&mut random, &mut recent);
            let request = turn(&mut random, &mut conversation, &mut next_id, clock_ms);
            if conversation.tokens < PROMPT_MAX {
                recent.insert(0, conversation);
                recent.truncate(RECENT_MAX);
            }
            request
        })
        .collect()
}

/// A new conversation, or a recent one, taken out of its place.
fn choose(random: &mut Random, recent: &mut Vec<Conversation>) -> Conversation {
    if recent.is_empty() || random.unit() <= NEW_CONVERSATION {
        return Conversation {
            full: vec![0],
            tokens: 0,
        };
    }
    // The inverse of the harmonic sum, which grows like a logarithm: rank 1 most often.
    let ranks = recent.len() as f64;
    let rank = (ranks + 1.0).powf(random.unit()).floor().clamp(1.0, ranks);
    let index = (1..recent.len())
        .find(|index| *index as f64 >= rank)
        .unwrap_or(recent.len());
    recent.remove(index - 1)
}

/// One more turn: a question, and the answer that the next turn will carry.
fn turn(
    random: &mut Random,
    conversation: &mut Conversation,
    next_id: &mut u64,
    clock_ms: f64,
) -> Request {
    let (median, sigma) = if conversation.tokens == 0 {
        FIRST_TOKENS
    } else {
        NEXT_TOKENS
    };
    let question = tokens(random.log_normal(median, sigma), PROMPT_MAX);
    let answer = tokens(
        random.log_normal(ANSWER_TOKENS.0, ANSWER_TOKENS.1),
        ANSWER_MAX,
    );
    // The common start fills one block.
    let prompt = (conversation.tokens + question).clamp(BLOCK_TOKENS + 1, PROMPT_MAX);
    let full = usize::try_from(prompt / BLOCK_TOKENS).expect("a prompt is short");
    while conversation.full.len() < full {
        conversation.full.push(*next_id);
        *next_id += 1;
    }
    let mut hash_ids = conversation.full.clone();
    if !prompt.is_multiple_of(BLOCK_TOKENS) {
        hash_ids.push(*next_id);
        *next_id += 1;
    }
    conversation.tokens = prompt + answer;
    let timestamp_ms = tokens(clock_ms, u64::MAX >> 12);
    Request {
        timestamp_ms,
        input_tokens: prompt,
        output_tokens: answer,
        hash_ids,
    }
}

/// A drawn number as a count, at least 1.
fn tokens(drawn: f64, max: u64) -> u64 {
    let bounded = drawn.clamp(1.0, max as f64).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded and clamped to 1..=max just above"
    )]
    let count = bounded as u64;
    count
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn mean(values: impl Iterator<Item = u64>, count: usize) -> f64 {
        values.sum::<u64>() as f64 / count as f64
    }

    #[test]
    fn seed_fixes_the_trace() {
        assert_eq!(generate(300, 5), generate(300, 5));
        assert_ne!(generate(300, 5), generate(300, 6));
        // A shorter trace is the start of a longer one.
        assert_eq!(generate(300, 5)[..100], generate(100, 5));
    }

    #[test]
    fn requests_are_well_formed() {
        let mut last = 0;
        for request in generate(2000, 1) {
            assert_eq!(
                request.hash_ids.len() as u64,
                request.input_tokens.div_ceil(BLOCK_TOKENS)
            );
            assert_eq!(request.hash_ids[0], 0, "the common start");
            assert!(request.input_tokens <= PROMPT_MAX && request.output_tokens <= ANSWER_MAX);
            assert!(request.timestamp_ms >= last);
            last = request.timestamp_ms;
        }
    }

    #[test]
    fn statistics_are_near_the_published_figures() {
        for seed in 1..=3 {
            let requests = generate(12_000, seed);
            let count = requests.len();
            let input = mean(requests.iter().map(|request| request.input_tokens), count);
            assert!((10_500.0..13_500.0).contains(&input), "prompt {input}");
            let output = mean(requests.iter().map(|request| request.output_tokens), count);
            assert!((300.0..390.0).contains(&output), "answer {output}");
            let blocks = mean(
                requests.iter().map(|request| request.hash_ids.len() as u64),
                count,
            );
            assert!((21.0..27.0).contains(&blocks), "blocks {blocks}");
            let seconds = requests[count - 1].timestamp_ms as f64 / 1000.0;
            assert!(
                (3.1..3.7).contains(&(count as f64 / seconds)),
                "{seconds} s"
            );
            let (hit_ratio, once) = reuse(&requests);
            assert!((0.32..0.44).contains(&hit_ratio), "hit ratio {hit_ratio}");
            assert!((0.60..0.85).contains(&once), "seen once {once}");
        }
    }

    /// Hit ratio of longest prefixes without bounds, and the share of blocks seen once.
    fn reuse(requests: &[Request]) -> (f64, f64) {
        let mut seen: HashMap<u64, u64> = HashMap::new();
        let (mut hits, mut lookups) = (0, 0);
        for request in requests {
            lookups += request.hash_ids.len();
            hits += request
                .hash_ids
                .iter()
                .take_while(|id| seen.contains_key(id))
                .count();
            for id in &request.hash_ids {
                *seen.entry(*id).or_default() += 1;
            }
        }
        let once = seen.values().filter(|count| **count == 1).count();
        (
            hits as f64 / lookups as f64,
            once as f64 / seen.len() as f64,
        )
    }
}
