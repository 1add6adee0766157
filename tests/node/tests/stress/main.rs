//! The stress test of reads through the shared index, as a binary of its own: it fills the machine.
#![forbid(unsafe_code)]

#[cfg(test)]
mod deaths;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod run;
