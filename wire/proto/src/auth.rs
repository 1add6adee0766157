//! The proof of the handshake: HMAC-SHA256 over what both sides have seen.
//!
//! The server sends a nonce, the client answers with the HMAC, under its secret, of a label, the
//! nonce and the body of its own hello. So a proof is good for one nonce and for one hello: tenant,
//! access key, versions and features cannot be exchanged under it. The secret never travels.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a challenge's nonce.
pub const NONCE_LEN: u16 = 32;
/// Bytes of a proof.
pub const PROOF_LEN: u16 = 32;

/// Keeps these proofs apart from any other use of the same secret.
const LABEL: &[u8] = b"chariot handshake proof v1";

/// Makes the proof for `nonce` and the bytes of the hello's body as they were sent.
pub fn make_proof(secret: &[u8], nonce: &[u8; 32], hello_body: &[u8]) -> [u8; 32] {
    state(secret, nonce, hello_body)
        .finalize()
        .into_bytes()
        .into()
}

/// Returns whether `proof` is the one of `secret`, in a time that does not depend on where it is
/// wrong. For an unknown access key, verify against a random secret, so that both take as long.
pub fn verify_proof(secret: &[u8], nonce: &[u8; 32], hello_body: &[u8], proof: &[u8; 32]) -> bool {
    state(secret, nonce, hello_body).verify_slice(proof).is_ok()
}

fn state(secret: &[u8], nonce: &[u8; 32], hello_body: &[u8]) -> Hmac<Sha256> {
    let mut state =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("an HMAC takes any key length");
    state.update(LABEL);
    state.update(nonce);
    state.update(hello_body);
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_agrees_with_rfc_4231_case_2() {
        let mut state = <Hmac<Sha256> as KeyInit>::new_from_slice(b"Jefe").unwrap();
        state.update(b"what do ya want for nothing?");
        let code: [u8; 32] = state.finalize().into_bytes().into();
        assert_eq!(code[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
    }

    #[test]
    fn proof_is_accepted_for_its_inputs_only() {
        let nonce = [3; 32];
        let proof = make_proof(b"secret", &nonce, b"hello");
        assert!(verify_proof(b"secret", &nonce, b"hello", &proof));
        assert!(!verify_proof(b"secreT", &nonce, b"hello", &proof));
        assert!(!verify_proof(b"secret", &[4; 32], b"hello", &proof));
        assert!(!verify_proof(b"secret", &nonce, b"hellO", &proof));
        for bit in 0..256 {
            let mut flipped = proof;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !verify_proof(b"secret", &nonce, b"hello", &flipped),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn proof_is_stable_for_ever() {
        // Computed apart, with another implementation of HMAC-SHA256. A change of label or order
        // would lock out every older peer.
        let proof = make_proof(b"secret", &[0; 32], b"");
        assert_eq!(proof[..4], [12, 213, 13, 168]);
    }
}
