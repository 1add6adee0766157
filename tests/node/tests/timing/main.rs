//! What depends on time, alone on the machine: stalls, rest, and the time to be ready.
#![forbid(unsafe_code)]

#[cfg(test)]
mod stalls;
