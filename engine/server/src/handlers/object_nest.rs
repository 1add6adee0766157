//! `ObjectNest`: hold keys for the next version of their parent, before it is published. The shards
//! of the keys hold them; the answer comes when all do.

use chariot_base::ShardId;
use chariot_proto::{KeyHash, Status};
use chariot_shm::SubmissionFlags;

use crate::objects::{ObjectMessage, tell};
use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Bytes that name one key: the two words of its hash.
const HASH_BYTES: usize = 16;

/// Handles one list of nested keys.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let (parent, count) = (request.hash(), shard.shared.shard_count());
    if parent.shard(count) != shard.id.0 {
        return Status::Malformed.into();
    }
    let bytes = request.inline_value();
    let (names, rest) = bytes.as_chunks::<HASH_BYTES>();
    if names.is_empty() || !rest.is_empty() || !request.has(SubmissionFlags::VALUE_INLINE) {
        return Status::InvalidArgument.into();
    }
    let children: Vec<KeyHash> = names.iter().map(hash_of).collect();
    let objects = &mut shard.tenant_mut(request.tenant).objects;
    if objects
        .nesting
        .stage(request.session, parent, &children)
        .is_err()
    {
        return Status::Busy.into();
    }
    let held = u32::try_from(children.len()).expect("an inline value is short");
    let wait = objects.wait_for_children(request, held);
    let from = shard.id;
    for hash in children {
        let message = ObjectMessage::Hold {
            from,
            tenant: request.tenant,
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
