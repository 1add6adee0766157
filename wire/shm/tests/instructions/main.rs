//! A look-up costs as many instructions among many keys as among few, counted by valgrind.
//!
//! The difference of two runs of the example `index_speed` is the look-ups alone: one at a time, in
//! batches, and of what is absent.
#![forbid(unsafe_code)]

#[cfg(test)]
mod counts;
