//! Ports of several processes against a real daemon, on host memory and on the simulated CANN:
//! every byte that arrives is compared, and nobody may wait for ever.

#[cfg(test)]
mod doomed;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod worker;
