//! Entries, eviction and expiry as pure state machines.
