//! Ids, units, limits, clock and random ports.
