//! What a bench is told on its command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

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

/// An option that some benches have, and the others refuse.
#[derive(Clone, Copy, Debug)]
pub enum Takes<'a> {
    /// `--only`, of these contestants.
    Only(&'a [&'static str]),
    /// `--pairs`.
    Pairs,
    /// `--round-ms`.
    RoundMs,
}

/// What clap calls them.
const OPTIONAL: [&str; 3] = ["only", "pairs", "round_ms"];

impl Takes<'_> {
    fn id(self) -> &'static str {
        match self {
            Self::Only(_) => OPTIONAL[0],
            Self::Pairs => OPTIONAL[1],
            Self::RoundMs => OPTIONAL[2],
        }
    }
}

impl Args {
    /// Reads the command line; prints the help and ends the process if that is asked for.
    ///
    /// `about` says what the bench measures, `sizes` are its numbers of sessions, with `--quick` the
    /// second ones; `takes` are the options that it has.
    pub fn parse(about: &'static str, sizes: [&[usize]; 2], takes: &[Takes<'_>]) -> Self {
        let default = format!("By default {:?} sessions, with --quick {:?}.", sizes[0], sizes[1]);
        let mut command = Self::command().about(about).after_help(default);
        for id in OPTIONAL.into_iter().filter(|id| !takes.iter().any(|one| one.id() == *id)) {
            command = command.mut_arg(id, |option| option.hide(true));
        }
        let matches = command.clone().get_matches();
        if let Err(why) = check(&matches, takes) {
            command.error(ErrorKind::ArgumentConflict, why).exit();
        }
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

/// Nothing is asked for that would change nothing: what a bench lacks, and contestants that nobody knows.
fn check(matches: &ArgMatches, takes: &[Takes<'_>]) -> Result<(), String> {
    let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    for id in OPTIONAL.into_iter().filter(given) {
        let Some(takes) = takes.iter().find(|one| one.id() == id) else {
            return Err(format!("this bench has no --{}", id.replace('_', "-")));
        };
        let only = matches.get_one::<String>(OPTIONAL[0]);
        if let (Takes::Only(names), Some(only)) = (takes, only)
            && !names.iter().any(|name| name.contains(only.as_str()))
        {
            return Err(format!("no contestant {only:?}; there are {}", names.join("; ")));
        }
    }
    Ok(())
}

fn size(text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err("not a number of sessions".to_owned()),
    }
}
