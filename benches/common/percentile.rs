//! Percentiles of times.

/// What `percent` of some times are at most, or a little less where they are few; sorts them.
pub fn percentile(times: &mut [f64], percent: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    percentile_of_sorted(times, percent)
}

/// The same of times that are sorted.
pub fn percentile_of_sorted(times: &[f64], percent: f64) -> f64 {
    let idx = (times.len() as f64 * percent / 100.0) as usize;
    times.get(idx).or(times.last()).copied().unwrap_or(f64::NAN)
}
