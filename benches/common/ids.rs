//! Numbers that look random.

/// The id of a session number: 32 bytes that look random.
pub fn id(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    for (word, bytes) in id.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&mix(number.wrapping_mul(4).wrapping_add(word as u64)).to_le_bytes());
    }
    id
}

/// The finisher of splitmix64.
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
