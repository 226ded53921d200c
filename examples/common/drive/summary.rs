//! What a drive found.

use std::{fmt, thread, time::Duration};

use rustls::HandshakeKind;
use serde_json::{Value, json};

use super::histogram::Histogram;
use crate::format::{grouped, percent, short};

#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) clients: usize,
    pub(crate) took: Duration,
    /// All that were completed.
    pub(crate) handshakes: u64,
    /// Those that offered a ticket for the first time, and those of them that it resumed.
    pub(crate) returning: u64,
    pub(crate) resumed: u64,
    /// Those that offered a ticket which the server had accepted before, and those of them that
    /// ended as full handshakes.
    second_uses: u64,
    second_uses_refused: u64,
    failures: u64,
    first_failure: Option<String>,
    full_times: Histogram,
    resumed_times: Histogram,
}

/// What a client did with a ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offer {
    Nothing,
    Ticket,
    UsedTicket,
}

impl Summary {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            clients,
            took: Duration::ZERO,
            handshakes: 0,
            returning: 0,
            resumed: 0,
            second_uses: 0,
            second_uses_refused: 0,
            failures: 0,
            first_failure: None,
            full_times: Histogram::new(),
            resumed_times: Histogram::new(),
        }
    }

    pub(crate) fn count(&mut self, offer: Offer, kind: HandshakeKind, took: Duration) {
        let resumed = kind == HandshakeKind::Resumed;
        let times = if resumed { &mut self.resumed_times } else { &mut self.full_times };
        times.add(took);
        self.handshakes += 1;
        match offer {
            Offer::Nothing => {}
            Offer::Ticket => {
                self.returning += 1;
                self.resumed += u64::from(resumed);
            }
            Offer::UsedTicket => {
                self.second_uses += 1;
                self.second_uses_refused += u64::from(!resumed);
            }
        }
    }

    pub(crate) fn fail(&mut self, failure: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(failure);
    }

    /// Whether clients came, every one was served, and no ticket twice. A drive without a handshake has shown
    /// nothing.
    pub(crate) fn is_good(&self) -> bool {
        self.handshakes > 0 && self.failures == 0 && self.second_uses_refused == self.second_uses
    }

    pub(crate) fn json(&self) -> Value {
        let micros = |time: Option<Duration>| time.map(|time| time.as_micros() as u64);
        json!({
            "seconds": self.took.as_secs_f64(),
            "clients": self.clients,
            "handshakes": self.handshakes,
            "handshakes_per_second": self.rate(),
            "returning": self.returning,
            "resumed": self.resumed,
            "second_uses": self.second_uses,
            "second_uses_refused": self.second_uses_refused,
            "failures": self.failures,
            "first_failure": self.first_failure,
            "full_p50_us": micros(self.full_times.percentile(50)),
            "full_p99_us": micros(self.full_times.percentile(99)),
            "resumed_p50_us": micros(self.resumed_times.percentile(50)),
            "resumed_p99_us": micros(self.resumed_times.percentile(99)),
        })
    }

    fn rate(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.handshakes as f64 / seconds } else { 0.0 }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (clients, took) = (self.clients, self.took.as_secs_f64());
        write!(f, "{clients} clients and the server on {cores} cores, {took:.1} s")?;
        let rate = grouped(self.rate() as u64);
        write!(f, "\n  handshakes         {:>10}   {rate} a second", grouped(self.handshakes))?;
        let share = percent(self.resumed, self.returning, 2);
        write!(f, "\n  returning clients  {:>10}   {share} resumed", grouped(self.returning))?;
        let used = grouped(self.second_uses);
        let refused = grouped(self.second_uses_refused);
        write!(f, "\n  tickets used twice {used:>10}   {refused} refused")?;
        for (name, times) in [("full", &self.full_times), ("resumed", &self.resumed_times)] {
            if let (Some(half), Some(most)) = (times.percentile(50), times.percentile(99)) {
                let (half, most) = (short(half), short(most));
                write!(f, "\n  {name:<8} handshake {half:>10}   99 % within {most}")?;
            }
        }
        if let Some(failure) = &self.first_failure {
            write!(f, "\n  failures           {:>10}   the first: {failure}", self.failures)?;
        }
        Ok(())
    }
}
