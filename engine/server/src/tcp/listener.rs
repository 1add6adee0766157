//! Accepts connections: one listener per shard on the same address (`SO_REUSEPORT`), so that the
//! kernel spreads them.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;

use chariot_shard::{IoFd, ShardContext};

use crate::limits::CONNECTIONS_MAX;
use crate::shard::Shard;
use crate::tcp::connection;

/// Accepts until the shard ends.
pub(crate) async fn serve(shard: Rc<RefCell<Shard>>, context: ShardContext, listener: TcpListener) {
    let listener = IoFd::new(listener);
    let ring = context.ring();
    loop {
        let socket = match ring.accept(&listener).await {
            Ok(socket) => socket,
            Err(error) => {
                if shard.borrow().draining {
                    return;
                }
                tracing::warn!(%error, "accept failed; raise RLIMIT_NOFILE if descriptors ran out");
                context.sleep(std::time::Duration::from_millis(50)).await;
                continue;
            },
        };
        {
            let mut borrowed = shard.borrow_mut();
            if borrowed.draining || borrowed.connections >= CONNECTIONS_MAX {
                // Closed without a word: there is no session yet to answer in.
                borrowed.shared.registry.refuse();
                continue;
            }
            borrowed.connections += 1;
        }
        if let Err(error) = socket.set_nodelay() {
            tracing::debug!(%error, "no TCP_NODELAY on a connection");
        }
        let (task_shard, task_context) = (Rc::clone(&shard), context.clone());
        context
            .spawn_local(async move {
                connection::serve(&task_shard, &task_context, socket).await;
                task_shard.borrow_mut().connections -= 1;
            })
            .detach();
    }
}
