//! Percentiles of times.

/// What `percent` of some times are at most; sorts them. Not a number where they are so few that the
/// longest alone would be it: below 1 000 for p99.9.
pub fn percentile(times: &mut [f64], percent: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    percentile_of_sorted(times, percent)
}

/// The same of times that are sorted.
pub fn percentile_of_sorted(times: &[f64], percent: f64) -> f64 {
    // Of a hundred times as many as there are, those beyond it; nearly, for no processor has 99.9.
    let beyond = times.len() as f64 * (100.0 - percent);
    if percent < 100.0 && beyond < 99.999 {
        return f64::NAN;
    }
    let idx = (times.len() as f64 * percent / 100.0) as usize;
    times.get(idx).or(times.last()).copied().unwrap_or(f64::NAN)
}

/// A percentile in a table, with so many digits after the point.
pub fn shown(value: f64, digits: usize) -> String {
    if value.is_nan() { "too few".to_owned() } else { format!("{value:.digits$}") }
}

/// How long something took, in a table, of which it is only known that it did not end within a window if it
/// is no finite number.
pub fn within_window(millis: f64) -> String {
    if millis.is_finite() { format!("{millis:.0}") } else { "not in the window".to_owned() }
}
