//! `ObjectNest`: hold keys for the next version of their parent, before it is published. The shards
//! of the keys hold them; the answer comes when all do.

use chariot_base::ShardId;
use chariot_proto::{KeyHash, Status};
use chariot_shm::SubmissionFlags;

use crate::objects::{ObjectMessage, tell};
use crate::request::{Asker, Outcome, Request};
use crate::shard::Shard;

/// Bytes that name one key: the two words of its hash.
const HASH_BYTES: usize = 16;

/// Handles one list of nested keys of a local session.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let bytes = request.inline_value();
    let (names, rest) = bytes.as_chunks::<HASH_BYTES>();
    if !rest.is_empty() || !request.has(SubmissionFlags::VALUE_INLINE) {
        return Status::InvalidArgument.into();
    }
    let children: Vec<KeyHash> = names.iter().map(hash_of).collect();
    hold(shard, &request.asker(), request.words.extent, &children)
}

/// Holds keys for the publish that the session calls `number`.
pub(crate) fn hold(shard: &mut Shard, asker: &Asker, number: u64, children: &[KeyHash]) -> Outcome {
    let (parent, count) = (asker.hash, shard.shared.shard_count());
    if parent.shard(count) != shard.id.0 {
        return Status::Malformed.into();
    }
    // One that is nested in itself would be held by itself, for ever.
    if children.is_empty() || children.contains(&parent) {
        return Status::InvalidArgument.into();
    }
    let objects = &mut shard.tenant_mut(asker.tenant).objects;
    let staged = objects
        .nesting
        .stage(asker.session, parent, number, children);
    if staged.is_err() {
        return Status::Busy.into();
    }
    let held = u32::try_from(children.len()).expect("a list is short");
    let wait = objects.wait_for_children(asker, held);
    let from = shard.id;
    for &hash in children {
        let message = ObjectMessage::Hold {
            from,
            tenant: asker.tenant,
            hash,
            wait,
        };
        tell(shard, ShardId(hash.shard(count)), message);
    }
    Outcome::Watching
}

fn hash_of(name: &[u8; HASH_BYTES]) -> KeyHash {
    let number = u128::from_le_bytes(*name);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of a number"
    )]
    KeyHash {
        hi: number as u64,
        lo: (number >> 64) as u64,
    }
}
