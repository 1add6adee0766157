//! The `chariotd` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use chariotd::seam::{NodeControl, NodeOptions, StartError};

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    chariotd::run::run(std::env::args_os().skip(1), environment, start_node)
}

/// The engine's place.
fn start_node(_options: NodeOptions) -> Result<Arc<dyn NodeControl>, StartError> {
    Err(StartError {
        cause: "this build has no node engine yet".to_owned(),
        remedy: "build a later commit".to_owned(),
    })
}
