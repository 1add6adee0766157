//! Who may open a session: the rules of the handshake, the same on both transports, without any
//! I/O.
//!
//! Lives on: control thread (unix sockets) and any shard (TCP). `on_hello` answers with a challenge
//! or a refusal, `on_proof` with the admitted identity. Nothing of a peer is believed before its
//! proof, and an unknown access key takes as long to refuse as a wrong secret.
//!
//! Neighbours: `control/unix.rs` and `tcp/connection.rs` carry the frames; `control/tenants.rs`
//! makes the tenant.

use chariot_proto::auth::verify_proof;
use chariot_proto::message::{Challenge, Hello, Proof, Refused};
use chariot_proto::{Status, VersionRange};

use crate::seam::AccessRules;

/// Name of tenant 0, whose sessions need no credential while none is configured.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// A handshake between its hello and its proof.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three independent facts about one hello, no lifecycle"
)]
pub(crate) struct Pending {
    nonce: [u8; 32],
    hello_body: Vec<u8>,
    /// Secret to verify against; random where the access key is unknown.
    secret: Vec<u8>,
    tenant: String,
    proof_required: bool,
    known: bool,
    wants_shared_memory: bool,
    version: u16,
}

/// Who was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Tenant name, never empty.
    pub(crate) tenant: String,
    /// Protocol version agreed on.
    pub(crate) version: u16,
    /// Whether the client asked for descriptors or the socket path.
    pub(crate) wants_shared_memory: bool,
}

/// Judges a hello. `nonce` and `stand_in` are fresh random bytes; `hello_body` is what the proof
/// will cover.
pub(crate) fn on_hello(
    rules: &AccessRules,
    hello: &Hello,
    hello_body: &[u8],
    nonce: [u8; 32],
    stand_in: [u8; 32],
) -> Result<(Pending, Challenge), Refused> {
    let Some(version) = VersionRange::OURS.agree(hello.versions()) else {
        return Err(Refused::new(
            Status::VersionMismatch,
            format!(
                "this node speaks protocol versions {} to {}, the client {} to {}; \
                 upgrade the older side",
                VersionRange::OURS.min,
                VersionRange::OURS.max,
                hello.version_min,
                hello.version_max,
            ),
        ));
    };
    let asked = if hello.tenant.is_empty() {
        None
    } else {
        Some(hello.tenant.as_str())
    };
    let proof_required = rules.auth_required();
    let (secret, tenant, known) = if proof_required {
        match rules
            .credentials
            .iter()
            .find(|one| one.access_key == hello.access_key)
        {
            Some(one) if asked.is_none_or(|name| name == one.tenant) => (
                one.secret_key.clone().into_bytes(),
                one.tenant.clone(),
                true,
            ),
            Some(_) | None => (stand_in.to_vec(), String::new(), false),
        }
    } else {
        if asked.is_some_and(|name| name != DEFAULT_TENANT) {
            return Err(Refused::new(
                Status::NotAuthorized,
                "tenants other than `default` need credentials; start the node with --auth FILE",
            ));
        }
        (Vec::new(), DEFAULT_TENANT.to_owned(), true)
    };
    let pending = Pending {
        nonce,
        hello_body: hello_body.to_vec(),
        secret,
        tenant,
        proof_required,
        known,
        wants_shared_memory: hello.flags & Hello::WANTS_SHARED_MEMORY != 0,
        version,
    };
    let challenge = Challenge {
        features: 0,
        flags: if proof_required {
            Challenge::PROOF_REQUIRED
        } else {
            0
        },
        version,
        nonce,
        server: server_version(),
    };
    Ok((pending, challenge))
}

impl Pending {
    /// Judges the proof.
    pub(crate) fn on_proof(self, proof: &Proof) -> Result<Admitted, Refused> {
        if self.proof_required {
            let present = proof.flags & Proof::PRESENT != 0;
            // Verified in every case, so that time tells nothing about which part was wrong.
            let right = verify_proof(&self.secret, &self.nonce, &self.hello_body, &proof.code);
            if !(present && right && self.known) {
                return Err(Refused::new(
                    Status::NotAuthorized,
                    "access key, secret or tenant is not accepted; \
                     check the client's credentials against the \
                     node's --auth file",
                ));
            }
        }
        assert!(!self.tenant.is_empty());
        Ok(Admitted {
            tenant: self.tenant,
            version: self.version,
            wants_shared_memory: self.wants_shared_memory,
        })
    }
}

/// What the node calls itself in challenges and welcomes.
pub(crate) fn server_version() -> String {
    format!("chariotd/{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use chariot_proto::auth::make_proof;

    use super::*;
    use crate::seam::Credential;

    fn rules() -> AccessRules {
        AccessRules {
            own_uid: 1,
            credentials: vec![Credential {
                access_key: "ak".to_owned(),
                secret_key: "0123456789abcdef".to_owned(),
                tenant: "red".to_owned(),
            }],
            ..AccessRules::default()
        }
    }

    fn hello(access_key: &str, tenant: &str) -> Hello {
        Hello {
            version_min: 1,
            version_max: 1,
            tenant: tenant.to_owned(),
            access_key: access_key.to_owned(),
            ..Hello::default()
        }
    }

    #[test]
    fn right_secret_is_admitted_to_its_tenant() {
        let (pending, challenge) =
            on_hello(&rules(), &hello("ak", ""), b"hello", [7; 32], [9; 32]).unwrap();
        assert_eq!(challenge.flags, Challenge::PROOF_REQUIRED);
        let code = make_proof(b"0123456789abcdef", &[7; 32], b"hello");
        assert_eq!(
            pending.on_proof(&Proof::with_code(code)).unwrap().tenant,
            "red"
        );
    }

    #[test]
    fn wrong_secret_unknown_key_foreign_tenant_and_no_proof_are_refused_alike() {
        let code = make_proof(b"another-secret-1", &[7; 32], b"hello");
        for (key, tenant, proof) in [
            ("ak", "", Proof::with_code(code)),
            (
                "nobody",
                "",
                Proof::with_code(make_proof(&[9; 32], &[7; 32], b"hello")),
            ),
            (
                "ak",
                "blue",
                Proof::with_code(make_proof(b"0123456789abcdef", &[7; 32], b"hello")),
            ),
            ("ak", "red", Proof::default()),
        ] {
            let (pending, _) =
                on_hello(&rules(), &hello(key, tenant), b"hello", [7; 32], [9; 32]).unwrap();
            let refused = pending.on_proof(&proof).unwrap_err();
            assert_eq!(refused.status(), Status::NotAuthorized, "{key} {tenant}");
        }
    }

    #[test]
    fn a_proof_of_another_hello_is_refused() {
        let (pending, _) =
            on_hello(&rules(), &hello("ak", ""), b"hello", [7; 32], [9; 32]).unwrap();
        let code = make_proof(b"0123456789abcdef", &[7; 32], b"hullo");
        pending.on_proof(&Proof::with_code(code)).unwrap_err();
    }

    #[test]
    fn without_credentials_only_the_default_tenant_is_open() {
        let open = AccessRules::default();
        let (pending, challenge) = on_hello(&open, &hello("", ""), b"", [0; 32], [0; 32]).unwrap();
        assert_eq!(challenge.flags, 0);
        assert_eq!(
            pending.on_proof(&Proof::default()).unwrap().tenant,
            DEFAULT_TENANT
        );
        let refused = on_hello(&open, &hello("", "red"), b"", [0; 32], [0; 32]).unwrap_err();
        assert_eq!(refused.status(), Status::NotAuthorized);
    }

    #[test]
    fn no_common_version_is_refused_with_both_ranges() {
        let mut newer = hello("", "");
        newer.version_min = 90;
        newer.version_max = 91;
        let refused = on_hello(&AccessRules::default(), &newer, b"", [0; 32], [0; 32]).unwrap_err();
        assert_eq!(refused.status(), Status::VersionMismatch);
        assert!(refused.message.contains("90"));
    }
}
