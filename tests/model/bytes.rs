//! Operations that a string of bytes stands for.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use resumption::CacheMode;

use super::{IDS, Key, Limit, Operation, REJECTED, SCOPES};

/// Longer sequences find no more, and take longer.
const MOST: usize = 400;

/// What bounds the cache, whether it has callbacks, and what is done to it.
pub(crate) fn decode(bytes: &[u8]) -> (Limit, bool, Vec<Operation>) {
    let mut source = Unstructured::new(bytes);
    // Where bytes end, they are zeros.
    let limit = limit(&mut source).unwrap_or(Limit::None);
    let is_told = source.arbitrary().unwrap_or(false);
    let mut operations = Vec::new();
    while !source.is_empty() && operations.len() < MOST {
        operations.extend(operation(&mut source));
    }
    (limit, is_told, operations)
}

fn limit(source: &mut Unstructured<'_>) -> Result<Limit> {
    Ok(match source.int_in_range(0..=2)? {
        0 => Limit::None,
        1 => Limit::Sessions(source.int_in_range(1..=8)?),
        _ => Limit::Bytes(source.int_in_range(1_000..=6_000)?),
    })
}

fn operation(source: &mut Unstructured<'_>) -> Result<Operation> {
    Ok(match source.int_in_range(0..=16u8)? {
        0 => Operation::Put(key(source)?, weight(source)?),
        1 => Operation::PutWith(key(source)?, weight(source)?, duration(source)?),
        2 => Operation::PutIfAbsent(key(source)?, weight(source)?),
        3 => Operation::PutFrom(key(source)?, weight(source)?, source.arbitrary()?, {
            if source.arbitrary()? { Some(duration(source)?) } else { None }
        }),
        4 => Operation::Get(key(source)?),
        5 => Operation::Take(key(source)?),
        6 => Operation::Lookup(key(source)?, source.arbitrary()?),
        7 => Operation::Remove(key(source)?),
        8 => Operation::RemoveFaulty(key(source)?),
        9 => Operation::Extend(key(source)?, duration(source)?),
        10 => Operation::Advance(duration(source)?.min(Duration::from_secs(1 << 22))),
        11 => Operation::SetLifetime(duration(source)?),
        12 => Operation::SetMode(mode(source)?),
        13 => Operation::SetLimit(source.int_in_range(0..=6_000)?),
        14 => Operation::FlushExpired,
        15 => match source.int_in_range(0..=7u8)? {
            0 => Operation::Flush,
            _ => Operation::Retain(source.int_in_range(2..=5)?),
        },
        _ => Operation::DropScope(source.int_in_range(0..=SCOPES - 1)?),
    })
}

fn key(source: &mut Unstructured<'_>) -> Result<Key> {
    Ok((source.int_in_range(0..=SCOPES - 1)?, source.int_in_range(0..=IDS - 1)?))
}

fn weight(source: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match source.arbitrary::<u8>()? {
        255 => 5_000,
        254 => REJECTED,
        weight => usize::from(weight),
    })
}

/// Of all orders of magnitude.
fn duration(source: &mut Unstructured<'_>) -> Result<Duration> {
    let size = source.int_in_range(0..=64u32)?;
    let millis = u64::from(source.arbitrary::<u16>()?).checked_shl(size).unwrap_or(u64::MAX);
    Ok(if size == 64 { Duration::MAX } else { Duration::from_millis(millis >> 16) })
}

fn mode(source: &mut Unstructured<'_>) -> Result<CacheMode> {
    let inside = CacheMode::BOTH | CacheMode::NO_AUTO_CLEAR | CacheMode::UPDATE_TIME;
    Ok(CacheMode::from_bits_retain(source.arbitrary::<u32>()?) & inside)
}
