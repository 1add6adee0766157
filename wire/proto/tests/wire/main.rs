//! The protocol seen from outside: golden frames, the document, round trips, hostile bytes.

#[path = "../../../fuzz/src/checks.rs"]
mod checks;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod document;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod samples;
