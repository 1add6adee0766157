//! One file per message: its fields, its limits, which frames carry it.
//!
//! Every message exists twice: the owned type, and the archived one (`Archived...`) that is read
//! in place. Both answer the same `validate`. A file's fields are the wire's: a field is never
//! added, removed or moved within a protocol version; what a peer may not know yet goes into flags
//! or into a new version.

mod bye;
mod challenge;
mod contract;
mod delete;
mod exist;
mod expire;
mod get;
mod hello;
mod keys;
mod number;
mod object;
mod open_ring;
mod prefix;
mod proof;
mod refused;
mod set;
mod size;
mod stats;
mod welcome;

pub use bye::{ArchivedBye, Bye};
pub use challenge::{ArchivedChallenge, Challenge};
pub use contract::Message;
pub use delete::{ArchivedDeleteRequest, ArchivedDeleteResponse, DeleteRequest, DeleteResponse};
pub use exist::{ArchivedExistRequest, ArchivedExistResponse, ExistRequest, ExistResponse};
pub use expire::{ArchivedExpireRequest, ArchivedExpireResponse, ExpireRequest, ExpireResponse};
pub use get::{
    ArchivedByteRange, ArchivedGetRequest, ArchivedGetResponse, ArchivedKeyAnswer, ByteRange,
    GetRequest, GetResponse, KeyAnswer,
};
pub use hello::{ArchivedHello, Hello};
pub use keys::{ArchivedKeyBatch, KeyBatch, Keys};
pub use number::Number;
pub use object::{ArchivedObjectRequest, ArchivedObjectResponse, ObjectRequest, ObjectResponse};
pub use open_ring::{ArchivedOpenRing, ArchivedRingOpened, OpenRing, RingOpened};
pub use prefix::{ArchivedPrefixRequest, ArchivedPrefixResponse, PrefixRequest, PrefixResponse};
pub use proof::{ArchivedProof, Proof};
pub use refused::{ArchivedRefused, Refused};
pub use set::{
    ArchivedSetAnswer, ArchivedSetItem, ArchivedSetRequest, ArchivedSetResponse, SetAnswer,
    SetItem, SetRequest, SetResponse,
};
pub use size::{ArchivedSizeRequest, ArchivedSizeResponse, SizeRequest, SizeResponse};
pub use stats::{
    ArchivedStatEntry, ArchivedStatsRequest, ArchivedStatsResponse, StatEntry, StatsRequest,
    StatsResponse,
};
pub use welcome::{ArchivedWelcome, Welcome};
