//! What was done, as a line, a summary and JSON.

use std::time::Duration;

use serde_json::{Value, json};

/// What a thread, a round or a whole run has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) rounds: u64,
    pub(crate) operations: u64,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    pub(crate) hits: u64,
    pub(crate) takes: u64,
    pub(crate) removes: u64,
    pub(crate) lookups_dropped: u64,
    pub(crate) sweeps: u64,
    pub(crate) settings: u64,
    pub(crate) threads: u64,
    pub(crate) payloads: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) given: u64,
    pub(crate) told: u64,
    pub(crate) panics: u64,
    pub(crate) samples: u64,
    pub(crate) rests: u64,
}

impl Totals {
    fn fields(&mut self) -> [(&'static str, &mut u64); 19] {
        [
            ("rounds", &mut self.rounds),
            ("operations", &mut self.operations),
            ("stored", &mut self.stored),
            ("refused", &mut self.refused),
            ("hits", &mut self.hits),
            ("takes", &mut self.takes),
            ("removes", &mut self.removes),
            ("lookups_dropped", &mut self.lookups_dropped),
            ("sweeps", &mut self.sweeps),
            ("settings_changed", &mut self.settings),
            ("threads", &mut self.threads),
            ("payloads", &mut self.payloads),
            ("evicted", &mut self.evicted),
            ("expired", &mut self.expired),
            ("given_by_get_callback", &mut self.given),
            ("removals_told", &mut self.told),
            ("planned_panics", &mut self.panics),
            ("samples_of_live_payloads", &mut self.samples),
            ("rests", &mut self.rests),
        ]
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for ((_, sum), (_, part)) in self.fields().into_iter().zip(other.fields()) {
            *sum += *part;
        }
    }
}

/// What a run has come to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) totals: Totals,
    /// Resident bytes at the start, the most of them, and at the end, if the system tells.
    pub(crate) memory: Option<[u64; 3]>,
    pub(crate) region_bytes: u64,
    pub(crate) failures: Vec<String>,
    /// The round that was played last; if anything has failed, in this one or after it.
    pub(crate) last_round: u64,
}

impl Report {
    pub(crate) fn line(&self) -> String {
        let Totals { rounds, operations, threads, told, panics, samples, .. } = self.totals;
        let memory = self
            .memory
            .map_or(String::new(), |[_, most, _]| format!(", at most {} MiB resident", most >> 20));
        format!(
            "{:>5.0} s: {rounds} rounds, {operations} operations, {threads} threads, {told} removals \
             told, {panics} planned panics, {samples} samples{memory}",
            self.took.as_secs_f64()
        )
    }

    pub(crate) fn summary(&self) -> String {
        let mut totals = self.totals;
        let rate = self.totals.operations as f64 / self.took.as_secs_f64();
        let mut text = format!("seed {}, {:.1} s\n", self.seed, self.took.as_secs_f64());
        for (name, value) in totals.fields() {
            text += &format!("  {:<26} {value:>14}\n", name.replace('_', " "));
        }
        text += &format!("  {:<26} {rate:>14.0}\n", "operations a second");
        if let Some(memory) = self.memory {
            let [start, most, end] = memory.map(|bytes| bytes >> 20);
            text += &format!(
                "  resident: {start} MiB at the start, at most {most}, {end} at the end\n"
            );
        }
        for failure in &self.failures {
            text += &format!("FAILED: {failure}\n");
        }
        text += &match self.failed_in() {
            None => "nothing has failed\n".to_owned(),
            Some(round) => format!(
                "round {round} again: cargo xtask soak --seconds 60 --seed {} --round {round}\n",
                self.seed
            ),
        };
        text
    }

    /// The round that has failed, if one has: a run ends with it.
    fn failed_in(&self) -> Option<u64> {
        (!self.failures.is_empty()).then_some(self.last_round)
    }

    pub(crate) fn json(&self) -> Value {
        let mut totals = self.totals;
        let counts = totals.fields().map(|(name, value)| (name.to_owned(), json!(*value)));
        json!({
            "seed": self.seed,
            "seconds": self.took.as_secs_f64(),
            "operations_per_second": self.totals.operations as f64 / self.took.as_secs_f64(),
            "totals": serde_json::Map::from_iter(counts),
            "resident_bytes": self.memory.map(|[start, most, end]| {
                json!({ "start": start, "most": most, "end": end })
            }),
            "region_bytes": self.region_bytes,
            "failures": self.failures,
            "failed_in_round": self.failed_in(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also one that comes after the last look at the rounds: the exit code knows it, and so does the text.
    #[test]
    fn a_failure_is_told_with_a_round_that_was_played() {
        let mut report = Report {
            seed: 7,
            took: Duration::from_secs(1),
            totals: Totals { rounds: 5, ..Totals::default() },
            memory: None,
            region_bytes: 0,
            failures: Vec::new(),
            last_round: 4,
        };
        assert!(report.summary().contains("nothing has failed"));
        assert_eq!(report.json()["failed_in_round"], Value::Null);
        report.failures.push("too late".to_owned());
        let text = report.summary();
        assert!(
            text.contains("FAILED: too late") && text.contains("--seed 7 --round 4\n"),
            "{text}"
        );
        assert!(!text.contains("nothing has failed"), "{text}");
        assert_eq!(report.json()["failed_in_round"], 4);
    }
}
