//! The runtime of one shard: executor, data ring, bell, mailboxes, watchdog.
