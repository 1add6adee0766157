//! chariotd from outside: its command line, its endpoints, its generated documents.
#![forbid(unsafe_code)]

#[cfg(test)]
mod admin;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod lifecycle;
