//! One node from outside: real processes, the Rust SDK, and peers that mean harm.
#![forbid(unsafe_code)]

#[cfg(test)]
mod access;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod fresh;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod objects_remote;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rings;
#[cfg(test)]
mod ssd;
#[cfg(test)]
mod ssd_drain;
#[cfg(test)]
mod ssd_faults;
#[cfg(test)]
mod ssd_kills;
#[cfg(test)]
mod ssd_volumes;
#[cfg(test)]
mod syscalls;
#[cfg(test)]
mod transactions;
#[cfg(test)]
mod views;
