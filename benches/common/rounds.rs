//! What several rounds come to.

/// The middle one of some numbers; of two middle ones the lower.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// How much larger `these` are than `those`: the median over the rounds, each with its neighbour in
/// time, so that a slow minute of the machine is both sides'.
pub(crate) fn ratio(these: &[f64], those: &[f64]) -> f64 {
    median(&these.iter().zip(those).map(|(this, that)| this / that).collect::<Vec<_>>())
}
