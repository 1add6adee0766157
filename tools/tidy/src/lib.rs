//! Repository checks as ordinary tests.
