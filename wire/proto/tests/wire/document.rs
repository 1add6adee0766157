//! Ties `wire/PROTOCOL.md` to the code: every number, name and offset of the one stands in the
//! other.

use core::mem::offset_of;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chariot_proto::message as m;
use chariot_proto::{FRAME_MAGIC, FrameFlags, FrameHeader, Opcode, Status, limits};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md");
    fs::read_to_string(path).expect("wire/PROTOCOL.md")
}

/// Returns the rows of the table under the heading `## name` (or `### name`), cells trimmed.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let start = document
        .lines()
        .position(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading)
        .unwrap_or_else(|| panic!("the document has no heading {heading}"));
    document
        .lines()
        .skip(start + 1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            let inner = line.trim_matches('|').replace("\\|", "/");
            inner
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .skip(2)
        .collect()
}

#[test]
fn document_lists_every_opcode_and_no_other() {
    let expected: Vec<Vec<String>> = Opcode::ALL
        .iter()
        .map(|opcode| {
            let number = opcode.as_u8().to_string();
            [&number, opcode.name(), opcode.room().name(), opcode.text()]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(rows(&document(), "Opcodes"), expected);
}

#[test]
fn document_lists_every_status_with_class_and_remedy() {
    let expected: Vec<Vec<String>> = Status::ALL
        .iter()
        .map(|status| {
            let number = status.as_u16().to_string();
            [
                &number,
                status.name(),
                status.class().name(),
                status.text(),
                status.remedy(),
            ]
            .map(str::to_owned)
            .to_vec()
        })
        .collect();
    assert_eq!(rows(&document(), "Statuses"), expected);
}

#[test]
fn document_lists_the_limits() {
    let expected = [
        ("KEY_MAX", u64::from(limits::KEY_MAX)),
        ("BATCH_MAX", limits::BATCH_MAX.into()),
        ("EXIST_BATCH_MAX", limits::EXIST_BATCH_MAX.into()),
        ("INLINE_MAX", limits::INLINE_MAX.into()),
        ("SESSIONS_MAX", limits::SESSIONS_MAX.into()),
        ("SHARDS_MAX", limits::SHARDS_MAX.into()),
        ("BODY_MAX", limits::BODY_MAX.into()),
        ("PAYLOAD_MAX", limits::PAYLOAD_MAX),
        ("NAME_MAX", limits::NAME_MAX.into()),
        ("SOCKET_PATH_MAX", limits::SOCKET_PATH_MAX.into()),
        ("REFUSAL_TEXT_MAX", limits::REFUSAL_TEXT_MAX.into()),
        ("STATS_MAX", limits::STATS_MAX.into()),
        ("WAIT_MS_MAX", limits::WAIT_MS_MAX),
        ("TTL_MS_MAX", limits::TTL_MS_MAX),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_string()));
    let found: Vec<_> = rows(&document(), "Limits")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(found, expected);
}

/// Encodes a header that holds each field's name in turn, and finds it at the documented offset.
#[test]
fn document_draws_the_header_as_it_is_written() {
    let header = FrameHeader {
        version: 0x1112,
        opcode: 0x21,
        flags: FrameFlags(0x31),
        request_id: 0x4142_4344_4546_4748,
        slot: 0x0152,
        body_len: 0x0062_6364,
        payload_len: 0x7172_7374_7576,
        deadline_unix_ms: 0x8182_8384_8586_8788,
        body_crc: 0x9192_9394,
        status: 0xa1a2,
    };
    let bytes = header.encode();
    let crc = crc32c::crc32c(&bytes[..60]);
    let expected: [(&str, &str, &[u8]); 13] = [
        ("magic", "u32", &FRAME_MAGIC.to_le_bytes()),
        ("version", "u16", &header.version.to_le_bytes()),
        ("opcode", "u8", &[header.opcode]),
        ("flags", "u8", &[header.flags.0]),
        ("request_id", "u64", &header.request_id.to_le_bytes()),
        ("slot", "u16", &header.slot.to_le_bytes()),
        ("header_len", "u16", &64_u16.to_le_bytes()),
        ("body_len", "u32", &header.body_len.to_le_bytes()),
        ("payload_len", "u64", &header.payload_len.to_le_bytes()),
        (
            "deadline_unix_ms",
            "u64",
            &header.deadline_unix_ms.to_le_bytes(),
        ),
        ("body_crc", "u32", &header.body_crc.to_le_bytes()),
        ("status", "u16", &header.status.to_le_bytes()),
        ("spare", "14 bytes", &[0; 14]),
    ];
    let rows = rows(&document(), "Header");
    assert_eq!(rows.len(), expected.len() + 1);
    let mut next = 0;
    for (row, (name, kind, value)) in rows.iter().zip(expected) {
        assert_eq!((row[1].as_str(), row[2].as_str()), (name, kind));
        let offset: usize = row[0].parse().unwrap();
        assert_eq!(offset, next, "{name}");
        next = offset + value.len();
        assert_eq!(&bytes[offset..next], value, "{name}");
    }
    assert_eq!(
        rows.last().unwrap()[..3],
        ["60", "header_crc", "u32"].map(str::to_owned)
    );
    assert_eq!(bytes[60..], crc.to_le_bytes());
}

macro_rules! layout {
    ($name:literal, $archived:ty { $($field:ident: $kind:literal),+ $(,)? }) => {
        Layout {
            name: $name,
            size_bytes: size_of::<$archived>(),
            fields: vec![$((offset_of!($archived, $field), stringify!($field), $kind),)+],
        }
    };
}

struct Layout {
    name: &'static str,
    size_bytes: usize,
    fields: Vec<(usize, &'static str, &'static str)>,
}

fn handshake_layouts() -> Vec<Layout> {
    vec![
        layout!(
            "KeyBatch",
            m::ArchivedKeyBatch {
                bytes: "list of u8",
                lens: "list of u16",
            }
        ),
        layout!(
            "Hello",
            m::ArchivedHello {
                features: "u64",
                pid: "u32",
                flags: "u32",
                version_min: "u16",
                version_max: "u16",
                tenant: "text",
                access_key: "text",
                client: "text",
            }
        ),
        layout!(
            "Challenge",
            m::ArchivedChallenge {
                features: "u64",
                flags: "u32",
                version: "u16",
                nonce: "32 bytes",
                server: "text",
            }
        ),
        layout!(
            "Proof",
            m::ArchivedProof {
                flags: "u32",
                code: "32 bytes",
            }
        ),
        layout!(
            "Welcome",
            m::ArchivedWelcome {
                boot_id: "u64",
                session_id: "u64",
                features: "u64",
                arena_len: "u64",
                granule_len: "u64",
                staging_len: "u64",
                session_rw_len: "u64",
                session_ro_len: "u64",
                index_len: "u64",
                value_max: "u64",
                payload_max: "u64",
                flags: "u32",
                spin_us: "u32",
                inline_max: "u32",
                batch_max: "u32",
                exist_batch_max: "u32",
                inflight_max: "u32",
                tenant_id: "u16",
                shard_count: "u16",
                index_count: "u16",
                descriptor_count: "u16",
                key_secret: "16 bytes",
                shard_cpus: "list of u32",
                socket_path: "text",
                server_version: "text",
            }
        ),
    ]
}

fn session_layouts() -> Vec<Layout> {
    vec![
        layout!("OpenRing", m::ArchivedOpenRing { shard: "u16" }),
        layout!("RingOpened", m::ArchivedRingOpened { shard: "u16" }),
        layout!("Bye", m::ArchivedBye { reason: "u16" }),
        layout!(
            "Refused",
            m::ArchivedRefused {
                retry_after_ms: "u32",
                status: "u16",
                message: "text",
            }
        ),
    ]
}

fn value_layouts() -> Vec<Layout> {
    vec![
        layout!(
            "SetRequest",
            m::ArchivedSetRequest {
                ttl_ms: "u64",
                flags: "u32",
                mode: "u8",
                existence: "u8",
                keys: "KeyBatch",
                items: "list of SetItem",
            }
        ),
        layout!(
            "SetItem",
            m::ArchivedSetItem {
                value_len: "u64",
                crc: "u32",
                flags: "u32",
            }
        ),
        layout!(
            "SetResponse",
            m::ArchivedSetResponse {
                answers: "list of SetAnswer",
            }
        ),
        layout!(
            "SetAnswer",
            m::ArchivedSetAnswer {
                version: "u64",
                status: "u16",
                flags: "u16",
                spare: "u32",
            }
        ),
        layout!(
            "GetRequest",
            m::ArchivedGetRequest {
                wait_ms: "u64",
                flags: "u32",
                keys: "KeyBatch",
                ranges: "list of ByteRange",
            }
        ),
        layout!(
            "ByteRange",
            m::ArchivedByteRange {
                offset: "u64",
                len: "u64",
            }
        ),
        layout!(
            "GetResponse",
            m::ArchivedGetResponse {
                answers: "list of KeyAnswer",
            }
        ),
        layout!(
            "KeyAnswer",
            m::ArchivedKeyAnswer {
                size: "u64",
                len: "u64",
                version: "u64",
                ttl_ms: "u64",
                crc: "u32",
                status: "u16",
                flags: "u16",
            }
        ),
    ]
}

fn key_layouts() -> Vec<Layout> {
    vec![
        layout!(
            "ExistRequest",
            m::ArchivedExistRequest {
                flags: "u32",
                keys: "KeyBatch",
            }
        ),
        layout!(
            "ExistResponse",
            m::ArchivedExistResponse {
                statuses: "list of u16",
            }
        ),
        layout!(
            "PrefixRequest",
            m::ArchivedPrefixRequest {
                flags: "u32",
                keys: "KeyBatch",
            }
        ),
        layout!("PrefixResponse", m::ArchivedPrefixResponse { count: "u32" }),
        layout!(
            "SizeRequest",
            m::ArchivedSizeRequest {
                flags: "u32",
                keys: "KeyBatch",
            }
        ),
        layout!(
            "SizeResponse",
            m::ArchivedSizeResponse {
                sizes: "list of u64",
                statuses: "list of u16",
            }
        ),
    ]
}

fn change_layouts() -> Vec<Layout> {
    vec![
        layout!(
            "DeleteRequest",
            m::ArchivedDeleteRequest {
                flags: "u32",
                keys: "KeyBatch",
            }
        ),
        layout!(
            "DeleteResponse",
            m::ArchivedDeleteResponse {
                statuses: "list of u16",
            }
        ),
        layout!(
            "ExpireRequest",
            m::ArchivedExpireRequest {
                ttl_ms: "u64",
                flags: "u32",
                keys: "KeyBatch",
            }
        ),
        layout!(
            "ExpireResponse",
            m::ArchivedExpireResponse {
                statuses: "list of u16",
            }
        ),
        layout!(
            "ObjectRequest",
            m::ArchivedObjectRequest {
                number: "u64",
                version: "u64",
                wait_ms: "u64",
                flags: "u32",
                form: "u8",
                keys: "KeyBatch",
            }
        ),
        layout!(
            "ObjectResponse",
            m::ArchivedObjectResponse {
                numbers: "list of u64",
                statuses: "list of u16",
            }
        ),
        layout!("StatsRequest", m::ArchivedStatsRequest { flags: "u32" }),
        layout!(
            "StatsResponse",
            m::ArchivedStatsResponse {
                entries: "list of StatEntry",
            }
        ),
        layout!(
            "StatEntry",
            m::ArchivedStatEntry {
                value: "u64",
                name: "text",
            }
        ),
    ]
}

/// Prints what the document must hold, so that a new message is pasted, not typed.
#[test]
fn document_draws_every_body_as_it_is_archived() {
    let document = document();
    let mut layouts = handshake_layouts();
    layouts.extend(session_layouts());
    layouts.extend(value_layouts());
    layouts.extend(key_layouts());
    layouts.extend(change_layouts());
    let mut missing = String::new();
    for layout in &layouts {
        let heading = format!("{} ({} bytes)", layout.name, layout.size_bytes);
        let mut drawn = format!("#### {heading}\n\n| offset | field | type |\n|---|---|---|\n");
        for (offset, field, kind) in &layout.fields {
            for part in ["| ", &offset.to_string(), " | ", field, " | ", kind, " |\n"] {
                drawn.push_str(part);
            }
        }
        if !document.contains(&drawn) {
            missing.push_str(&drawn);
            missing.push('\n');
        }
    }
    assert!(missing.is_empty(), "PROTOCOL.md must hold:\n{missing}");
    let drawn = document
        .lines()
        .filter(|line| line.starts_with("#### "))
        .count();
    assert_eq!(drawn, layouts.len(), "a body that no code has");
    let named: BTreeSet<_> = layouts.iter().map(|layout| layout.name).collect();
    assert_eq!(named.len(), layouts.len());
}

/// The comparison can fail: a row more, less or changed is seen.
#[test]
fn rows_reads_what_is_written() {
    let text = "# A\n## B\n| x | y |\n|---|---|\n| 1 | a |\n\n## C\n| x |\n|---|\n| 2 |\n";
    assert_eq!(rows(text, "B"), [["1".to_owned(), "a".to_owned()]]);
    assert_eq!(rows(text, "C"), [["2".to_owned()]]);
}
