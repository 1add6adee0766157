//! What an object costs, as a binary of its own: it writes as fast as it can.
#![forbid(unsafe_code)]

#[cfg(test)]
mod objects;
