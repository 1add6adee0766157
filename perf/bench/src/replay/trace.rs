//! Traces as JSON lines, one request each:
//! `{"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [block, …]}`.
//! One hash id stands for one block of 512 tokens whose content, and all content before it, it
//! names.

use std::fs::File;
use std::io::{BufRead, BufReader};

use serde::Deserialize;

use crate::failure::Failure;

/// Tokens of a block.
pub(crate) const BLOCK_TOKENS: u64 = 512;
/// Most bytes of a line: 10,000 blocks with ids of 20 digits fit.
const LINE_MAX: u64 = 1 << 20;
/// Most requests held in memory.
const REQUESTS_MAX: usize = 10_000_000;

/// One request of an inference service. Unknown fields are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Request {
    /// Milliseconds since the start of the trace.
    #[serde(rename = "timestamp")]
    pub timestamp_ms: u64,
    /// Tokens of the prompt.
    #[serde(rename = "input_length")]
    pub input_tokens: u64,
    /// Tokens generated.
    #[serde(rename = "output_length")]
    pub output_tokens: u64,
    /// The blocks of the prompt, in order.
    pub hash_ids: Vec<u64>,
}

/// Reads the first `limit` requests of a file, or all.
pub(crate) fn read_file(path: &str, limit: Option<u64>) -> Result<Vec<Request>, Failure> {
    let file = File::open(path).map_err(|error| {
        let cause = format!("cannot read the trace {path} ({error})");
        Failure::new(cause, "name a readable file of JSON lines, or synthetic")
    })?;
    read(path, BufReader::new(file), limit)
}

/// Reads requests; a line that is none ends the reading with its number.
fn read(name: &str, mut lines: impl BufRead, limit: Option<u64>) -> Result<Vec<Request>, Failure> {
    let limit = limit.map_or(REQUESTS_MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut requests = Vec::new();
    let mut line = Vec::new();
    let mut number = 0_u64;
    while requests.len() < limit.min(REQUESTS_MAX) {
        line.clear();
        number += 1;
        let refuse = |why: &str| {
            let cause = format!("line {number} of {name} is no request ({why})");
            let remedy = "each line is {\"timestamp\": ms, \"input_length\": tokens, \
                          \"output_length\": tokens, \"hash_ids\": [block, ...]}";
            Failure::new(cause, remedy)
        };
        let bounded = &mut (&mut lines as &mut dyn BufRead);
        let count = std::io::Read::take(bounded, LINE_MAX + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| refuse(&error.to_string()))?;
        if count == 0 {
            break;
        }
        if count as u64 > LINE_MAX {
            return Err(refuse("longer than 1 MiB"));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        requests.push(serde_json::from_slice(&line).map_err(|error| refuse(&error.to_string()))?);
    }
    if requests.is_empty() {
        let cause = format!("the trace {name} has no requests");
        return Err(Failure::new(cause, "name another, or synthetic"));
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"timestamp": 5, "input_length": 600, "output_length": 7, "hash_ids": [1, 2]}"#;

    fn read_text(text: &str, limit: Option<u64>) -> Result<Vec<Request>, String> {
        read("t.jsonl", text.as_bytes(), limit).map_err(|failure| failure.to_string())
    }

    #[test]
    fn requests_are_read_in_order_with_blank_lines_passed_over() {
        let text = format!(
            "{GOOD}\n\n{}\n",
            GOOD.replace("[1, 2]", "[]").replace('}', ", \"x\": 1}")
        );
        let requests = read_text(&text, None).unwrap();
        assert_eq!(requests.len(), 2);
        let wanted = Request {
            timestamp_ms: 5,
            input_tokens: 600,
            output_tokens: 7,
            hash_ids: vec![1, 2],
        };
        assert_eq!(requests[0], wanted);
        assert!(requests[1].hash_ids.is_empty());
    }

    #[test]
    fn limit_ends_the_reading_before_a_bad_line() {
        let text = format!("{GOOD}\nnonsense\n");
        assert_eq!(read_text(&text, Some(1)).unwrap().len(), 1);
    }

    #[test]
    fn malformed_lines_are_refused_with_their_number() {
        for bad in [
            "nonsense",
            "{",
            "[]",
            "{}",
            r#"{"timestamp": 5, "input_length": 600, "output_length": 7}"#,
            r#"{"timestamp": -5, "input_length": 6, "output_length": 7, "hash_ids": [1]}"#,
            r#"{"timestamp": 5, "input_length": 6, "output_length": 7, "hash_ids": ["a"]}"#,
            "\u{fffd}\0",
        ] {
            let shown = read_text(&format!("{GOOD}\n\n{bad}\n{GOOD}\n"), None).unwrap_err();
            assert!(
                shown.starts_with("line 3 of t.jsonl is no request"),
                "{bad}: {shown}"
            );
            assert!(
                shown.contains("hash_ids") && !shown.contains('\n'),
                "{shown}"
            );
        }
    }

    #[test]
    fn endless_line_is_refused_without_reading_it_all() {
        let endless = BufReader::new(std::io::repeat(b'1'));
        let shown = read("t", endless, None).unwrap_err().to_string();
        assert!(shown.contains("longer than 1 MiB"), "{shown}");
    }

    #[test]
    fn empty_or_missing_trace_is_refused() {
        assert!(
            read_text("\n\n", None)
                .unwrap_err()
                .contains("has no requests")
        );
        let shown = read_file("/nowhere/t.jsonl", None).unwrap_err().to_string();
        assert!(
            shown.contains("/nowhere/t.jsonl") && shown.contains("synthetic"),
            "{shown}"
        );
    }
}
