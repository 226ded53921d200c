//! How a drive is getting on: a bar on a terminal, and a line now and then elsewhere.

use std::{
    cell::Cell,
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::Summary;
use crate::{
    format::{grouped, percent},
    run,
};

const BETWEEN_LINES: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Progress {
    time: Duration,
    bar: Option<ProgressBar>,
    next_line: Cell<Duration>,
}

impl Progress {
    pub(crate) fn new(time: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(time.as_millis() as u64);
            let style = ProgressStyle::with_template("{bar:32} {percent:>3} %  {msg}");
            bar.with_style(style.expect("the template is valid"))
        });
        Self { time, bar, next_line: Cell::new(BETWEEN_LINES) }
    }

    pub(crate) fn show(&self, elapsed: Duration, so_far: &Summary) {
        if let Some(bar) = &self.bar {
            bar.set_message(text(so_far));
            bar.set_position(elapsed.as_millis() as u64);
        } else if elapsed >= self.next_line.get() {
            self.next_line.set(self.next_line.get() + BETWEEN_LINES);
            let (elapsed, time) = (elapsed.as_secs(), self.time.as_secs());
            run::tell(format_args!("{elapsed} of {time} s: {}", text(so_far)));
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn text(so_far: &Summary) -> String {
    let share = percent(so_far.resumed, so_far.returning, 1);
    let handshakes = grouped(so_far.handshakes);
    format!("{handshakes} handshakes, {share} of the returning clients resumed")
}
