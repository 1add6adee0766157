//! What the store promises, one by one.
