//! What a call must be like before anything of it is begun. The words of the messages are those
//! that old programs look for.

use chariot_client::{Error, Status, WriteMode};
use chariot_device::Device;
use chariot_proto::limits;

use crate::blobs::BlobList;

fn invalid(cause: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Status::InvalidArgument, cause)
}

/// The keys of any call.
pub(crate) fn check_keys(keys: usize) -> Result<(), Error> {
    if keys == 0 {
        return Err(invalid("The keys are empty"));
    }
    check_count(keys, limits::BATCH_MAX)
}

/// The keys of a question whether they exist.
pub(crate) fn check_questions(keys: usize) -> Result<(), Error> {
    check_count(keys, limits::EXIST_BATCH_MAX)
}

fn check_count(keys: usize, most: u32) -> Result<(), Error> {
    if keys > most as usize {
        let cause = format!("The objectKeys size exceed {most}.");
        return Err(Error::new(Status::TooLarge, cause));
    }
    Ok(())
}

/// Keys and lists of a copy; answers the card that all lists are on.
pub(crate) fn check_lists(keys: usize, lists: &[BlobList]) -> Result<&Device, Error> {
    let Some(first) = lists.first().filter(|_| keys > 0) else {
        let lists = lists.len();
        let cause = format!("Got empty parameters : keys nums {keys}, blobList nums {lists}.");
        return Err(invalid(cause));
    };
    if keys != lists.len() {
        return Err(invalid(
            "The size of objectKeys and devBlobList does not match",
        ));
    }
    check_keys(keys)?;
    let device = first.device();
    if let Some(other) = lists.iter().find(|list| !list.device().is(device)) {
        let (wrong, right) = (other.device().ordinal(), device.ordinal());
        return Err(invalid(format!(
            "The input deviceIdx({wrong}) is not the same as the deviceIdx which client \
             used({right})."
        )));
    }
    Ok(device)
}

/// Write modes that copies from a card do not take.
pub(crate) fn check_mode(mode: WriteMode) -> Result<(), Error> {
    match mode {
        WriteMode::WriteThrough | WriteMode::WriteBack => {
            let number = mode as u8;
            Err(invalid(format!(
                "not support L2 CACHE write mode,current writeMode is {number}"
            )))
        },
        WriteMode::None | WriteMode::NoneEvict | WriteMode::WriteBackEvict => Ok(()),
    }
}

/// The blobs that an object was made of, against those that it is read into.
pub(crate) fn check_shape(stored: &[(usize, usize)], wanted: &BlobList) -> Result<(), Error> {
    let (sender, receiver) = (stored.len(), wanted.blobs().len());
    if sender != receiver {
        return Err(invalid(format!(
            "Blobs count mismatch in devBlobList between sender and receiver, sender count is: \
             {sender}, receiver count is: {receiver}"
        )));
    }
    let pairs = stored.iter().zip(wanted.blobs());
    let mut pairs = pairs;
    let wrong = pairs.find(|((_, len), blob)| *len != blob.len);
    if let Some(((_, len), blob)) = wrong {
        let cause = format!(
            "The data size of device and host is not equal. A blob of {len} bytes, into {}",
            blob.len
        );
        return Err(invalid(cause));
    }
    Ok(())
}
