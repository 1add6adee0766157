//! The `chariotd` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use chariot_server::Node;
use chariotd::run::StartingNode;
use chariotd::seam::{NodeControl, NodeOptions};

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    chariotd::run::run(std::env::args_os().skip(1), environment, start_node)
}

/// Starts the engine on the control thread.
fn start_node(options: NodeOptions) -> StartingNode {
    Box::pin(async {
        let node: Arc<dyn NodeControl> = Arc::new(Node::start(options).await?);
        Ok(node)
    })
}
