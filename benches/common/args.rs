//! What a bench is told on its command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};

/// The settings of a run.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Fewer sizes, fewer rounds, and shorter ones
    #[arg(long)]
    pub quick: bool,
    /// Writes the results to this file as well, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Runs the contestants with this in their names, and ours
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// One contestant in memory at a time, beside ours, also where there is room for all
    #[arg(long)]
    pub pairs: bool,
    /// How long a round of one contestant is
    #[arg(long, value_name = "MS")]
    round_ms: Option<u64>,
    /// Numbers of sessions
    #[arg(value_parser = size)]
    pub sizes: Vec<usize>,
    /// Cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Reads the command line; prints the help and ends the process if that is asked for.
    ///
    /// `about` says what the bench measures, `sizes` are its numbers of sessions, with `--quick` the
    /// second ones.
    pub fn parse(about: &'static str, sizes: [&[usize]; 2]) -> Self {
        let default = format!("By default {:?} sessions, with --quick {:?}.", sizes[0], sizes[1]);
        let matches = Self::command().about(about).after_help(default).get_matches();
        let mut args = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if args.sizes.is_empty() {
            args.sizes = sizes[usize::from(args.quick)].to_vec();
        }
        args
    }

    /// `quick` of a quick run, `full` otherwise.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// How many rounds there are: at least seven.
    pub fn rounds(&self) -> usize {
        self.pick(11, 7)
    }

    /// How long a round of one contestant is, if the command line does not say.
    pub fn round_time(&self, full: Duration, quick: Duration) -> Duration {
        self.round_ms.map_or(self.pick(full, quick), Duration::from_millis)
    }

    /// Whether a contestant of this name is to run.
    pub fn is_wanted(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err("not a number of sessions".to_owned()),
    }
}
