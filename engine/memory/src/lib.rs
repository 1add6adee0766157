//! Granules, extents, leases, quarantine: the daemon's side of the arena.
