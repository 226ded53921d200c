//! Numbers and times as people read them.

use std::time::Duration;

/// `1234567` as `1 234 567`, which does not break over lines.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in percent, with so many decimals; of nothing there is no part.
pub(crate) fn percent(part: u64, whole: u64, decimals: usize) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.decimals$} %", 100.0 * part as f64 / whole as f64)
}

/// A short time in µs below a millisecond, in ms below a second, else in seconds.
pub(crate) fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1e-3 {
        return format!("{:.0} µs", seconds * 1e6);
    }
    if seconds < 1.0 {
        return format!("{:.1} ms", seconds * 1e3);
    }
    format!("{seconds:.1} s")
}
