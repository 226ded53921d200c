//! A TLS 1.3 ClientHello written by hand, with any PSK identities: what no TLS library would send.

/// The largest handshake message that rustls reads.
const MAX_MESSAGE: usize = 0xffff;
/// Age and length fields of an identity, and its binder with length.
const PER_IDENTITY: usize = 2 + 4 + 1 + BINDER;
const BINDER: usize = 32;
/// More than all of a hello but its identities and binders.
const REST: usize = 256;

/// How many identities of `len` bytes one ClientHello holds.
pub(crate) fn capacity(len: usize) -> usize {
    (MAX_MESSAGE - REST) / (len + PER_IDENTITY)
}

/// The bytes on the wire, records and all, of a ClientHello that offers these identities, each
/// with a binder of the right size that cannot be right.
pub(crate) fn with_identities<'a>(identities: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut add = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(vec16(body));
    };
    let name = [&[0][..], &vec16(b"server.test")].concat(); // a session belongs to its name
    add(0x0000, &vec16(&name)); // server_name
    add(0x000a, &[0, 2, 0x00, 0x1d]); // supported_groups: x25519
    add(0x000d, &[0, 2, 0x04, 0x03]); // signature_algorithms: ecdsa_secp256r1_sha256
    add(0x002b, &[2, 0x03, 0x04]); // supported_versions: TLS 1.3
    add(0x002d, &[1, 1]); // psk_key_exchange_modes: psk_dhe_ke
    let share = [&[0x00, 0x1d][..], &vec16(&[9; 32])].concat();
    add(0x0033, &vec16(&share)); // key_share
    add(0x0029, &pre_shared_key(identities)); // the last one, as it must be

    let mut body = vec![0x03, 0x03];
    body.extend([0x52; 32]); // random
    body.push(0); // session id
    body.extend([0, 2, 0x13, 0x02]); // TLS13_AES_256_GCM_SHA384, which rustls clients prefer
    body.extend([1, 0]); // no compression
    body.extend(vec16(&extensions));
    records(&handshake_message(&body))
}

fn pre_shared_key<'a>(identities: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut offered, mut binders) = (Vec::new(), Vec::new());
    for identity in identities {
        offered.extend(vec16(identity));
        offered.extend([0; 4]); // obfuscated age
        binders.push(BINDER as u8);
        binders.extend([0xbb; BINDER]);
    }
    [vec16(&offered), vec16(&binders)].concat()
}

fn handshake_message(body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= MAX_MESSAGE, "{} bytes are no ClientHello for rustls", body.len());
    let len = (body.len() as u32).to_be_bytes();
    [&[1], &len[1..], body].concat()
}

fn records(message: &[u8]) -> Vec<u8> {
    message.chunks(1 << 14).flat_map(|part| [&[22, 3, 1], &vec16(part)[..]].concat()).collect()
}

/// Bytes after their length in two bytes.
fn vec16(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("fits a ClientHello");
    [&len.to_be_bytes(), bytes].concat()
}
