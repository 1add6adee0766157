//! The chariotd binary: flags, configuration, wiring, admin HTTP.
