//! `DeviceOp`: offer, find or remove an object that lies on an accelerator. The form is the `mode`
//! byte; the port is the request's session and the card that its `ttl` word names, so that nobody
//! speaks for another session.

use chariot_proto::Status;
use chariot_proto::device::{
    CHUNK_LOG2, CHUNKS_MAX, DevicePort, DeviceShape, Lifetime, ObjectForm, ShapeError,
};
use chariot_shm::{CompletionWords, SubmissionFlags};
use chariot_store::{DeviceOffer, DeviceTake};

use crate::devices::{status_words, taken_words};
use crate::request::{Outcome, Request};
use crate::shard::Shard;

/// Handles one request to the directory.
pub(crate) fn handle(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    if request.hash().shard(shard.shared.shard_count()) != shard.id.0 {
        return Status::Malformed.into();
    }
    let Some(form) = ObjectForm::from_u8(request.words.mode) else {
        return Status::InvalidArgument.into();
    };
    let Some(port) = port_of(request) else {
        return Status::InvalidArgument.into();
    };
    let hash = request.hash();
    let number = request.words.extent;
    let objects = &mut shard.tenant_mut(request.tenant).devices.objects;
    let found = |found: bool| if found { Status::Ok } else { Status::NotFound };
    match form {
        ObjectForm::Put => put(shard, request, port).into(),
        ObjectForm::Take => take(shard, request, port),
        ObjectForm::Done => objects
            .done(hash, port, number)
            .err()
            .unwrap_or(Status::Ok)
            .into(),
        ObjectForm::Fail => {
            let blames = request.words.lease_class != 0;
            let failed = objects.fail(hash, (port, number), blames);
            failed.err().unwrap_or(Status::Ok).into()
        },
        ObjectForm::Delete => found(objects.delete(hash)).into(),
        ObjectForm::Leave => found(objects.leave(hash, port)).into(),
        ObjectForm::Shape => shape(shard, request),
    }
}

/// The port that a request speaks for.
pub(crate) fn port_of(request: &Request<'_>) -> Option<DevicePort> {
    DevicePort::new(request.session.0, request.words.ttl)
}

fn offer(request: &Request<'_>, port: DevicePort) -> Result<DeviceOffer, Status> {
    if !request.has(SubmissionFlags::VALUE_INLINE) {
        return Err(Status::InvalidArgument);
    }
    let shape = DeviceShape::parse(request.inline_value()).map_err(|error| match error {
        ShapeError::Malformed => Status::InvalidArgument,
        ShapeError::TooLarge => Status::TooLarge,
    })?;
    let lifetime = Lifetime::from_u8(request.words.lease_class);
    let chunk_log2 = u8::try_from(request.words.lease_count);
    Ok(DeviceOffer {
        hash: request.hash(),
        port,
        shape,
        lifetime: lifetime.ok_or(Status::InvalidArgument)?,
        chunk_log2: chunk_log2.map_err(|_large| Status::InvalidArgument)?,
    })
}

fn put(shard: &mut Shard, request: &Request<'_>, port: DevicePort) -> Status {
    let offer = match offer(request, port) {
        Ok(offer) => offer,
        Err(status) => return status,
    };
    let is_chunked = CHUNK_LOG2.contains(&offer.chunk_log2)
        && offer.shape.chunks(offer.chunk_log2) <= CHUNKS_MAX;
    if !is_chunked {
        return Status::InvalidArgument;
    }
    let objects = &mut shard.tenant_mut(request.tenant).devices.objects;
    objects.put(offer).err().unwrap_or(Status::Ok)
}

fn take(shard: &mut Shard, request: &Request<'_>, port: DevicePort) -> Outcome {
    let offer = match offer(request, port) {
        Ok(offer) => offer,
        Err(status) => return status.into(),
    };
    if request.words.deadline_ns == 0 {
        // Nobody waits for ever: the SDK always sends a deadline.
        return Status::InvalidArgument.into();
    }
    let take = DeviceTake {
        offer,
        number: request.words.extent,
        first: request.words.crc,
        token: request.words.token,
        deadline_ns: request.words.deadline_ns,
    };
    let objects = &mut shard.tenant_mut(request.tenant).devices.objects;
    match objects.take(take) {
        Ok(taken) => {
            if let Some(words) = taken_words(request.words.token, &taken) {
                shard.sessions.post(request.place, &words);
            }
            Outcome::Watching
        },
        Err(status) => status.into(),
    }
}

fn shape(shard: &mut Shard, request: &Request<'_>) -> Outcome {
    let objects = &shard.tenant_mut(request.tenant).devices.objects;
    let Some(shape) = objects.shape(request.hash()) else {
        return Status::NotFound.into();
    };
    let run = usize::try_from(request.words.extent)
        .ok()
        .and_then(|index| shape.runs().get(index));
    let Some(&(size, count)) = run else {
        return Status::RangeInvalid.into();
    };
    let words = CompletionWords {
        extent: size,
        len: count.into(),
        version: shape.runs().len() as u64,
        ..status_words(request.words.token, Status::Ok)
    };
    shard.sessions.post(request.place, &words);
    Outcome::Watching
}
