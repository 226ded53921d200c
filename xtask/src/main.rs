//! The project's own tooling: `cargo xtask <command>`, one file a command.
//!
//! A command is a row of [`COMMANDS`]: its name, one line for the help, and the function that runs
//! it. The function parses what is left of the command line with [`flag`] or on its own.

mod bench;
mod chaos;
mod debian;
mod deps;
mod fuzz;
mod instructions;
mod miri;
mod models;
mod nightly;
mod plants;
mod sanitize;
mod shuttle;
mod soak;
mod step;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::{Arg, Parser};

struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(Parser) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        arguments: "[--no-skips]",
        about: "every check and every test; with --no-skips a skip is a failure",
        run: test::run,
    },
    Command {
        name: "chaos",
        arguments: "[--plants | --plant NAME] [--operations N] [--seed N]",
        about: "histories of threads that pause at atomic steps; with --plants, of seeded bugs",
        run: chaos::run,
    },
    Command {
        name: "shuttle",
        arguments: "[--plants | --plant BUG] [--iterations N]",
        about: "random schedules of 3 to 6 tasks; `cargo xtask shuttle --help` says more",
        run: shuttle::run,
    },
    Command {
        name: "loom",
        arguments: "[--quick|--deep|--real]",
        about: "the loom models; `cargo xtask loom --help` says how deep",
        run: models::loom,
    },
    Command {
        name: "mutants",
        arguments: "[--show BUG]",
        about: "which model catches which planted bug; a survivor is a failure",
        run: models::mutants,
    },
    Command {
        name: "tidy",
        arguments: "",
        about: "the house rules: lengths, layers, locks, unsafe code, unfinished work",
        run: tidy::run,
    },
    Command {
        name: "deps",
        arguments: "",
        about: "what a plain `cargo add resumption` must not bring",
        run: deps::run,
    },
    Command {
        name: "soak",
        arguments: "[--minutes N] [--seconds N] [--seed S] [--round R] [--json] [--any-memory]",
        about: "everything at once, for long",
        run: soak::run,
    },
    Command {
        name: "sanitize",
        arguments: "[address|thread]... [--test T]...",
        about: "tests under AddressSanitizer and ThreadSanitizer (nightly)",
        run: sanitize::run,
    },
    Command {
        name: "fuzz",
        arguments: "[--seconds N] [TARGET...]",
        about: "each fuzz target for a minute, or so long (nightly)",
        run: fuzz::run,
    },
    Command {
        name: "miri",
        arguments: "[--seeds N] [FILTER...]",
        about: "unit tests under Miri (nightly)",
        run: miri::run,
    },
    Command {
        name: "bench",
        arguments: "[--quick] [--only NAME,... | --page]",
        about: "every bench, then docs/benchmarks.md and its plots; --page makes them of docs/results",
        run: bench::run,
    },
    Command {
        name: "instructions",
        arguments: "[--record] [--no-skips]",
        about: "the instructions of a get, a put and a take, against the recorded ones",
        run: instructions::run,
    },
];

/// Commands that say more to `--help` than their line, on their own.
const EXPLAINED: [&str; 5] = ["chaos", "shuttle", "loom", "mutants", "soak"];

fn main() -> ExitCode {
    match dispatch(Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Reads the rest of the command line, which may hold `--<name>` and nothing else.
fn flag(mut parser: Parser, name: &str) -> Result<bool> {
    let mut seen = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long(long) if long == name => seen = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(seen)
}

/// Refuses whatever is left of the command line.
fn no_arguments(mut parser: Parser) -> Result<()> {
    match parser.next()? {
        None => Ok(()),
        Some(arg) => Err(arg.unexpected().into()),
    }
}

fn dispatch(mut parser: Parser) -> Result<()> {
    let name = match parser.next()? {
        None | Some(Arg::Long("help") | Arg::Short('h')) => {
            print!("{}", help());
            return Ok(());
        }
        Some(Arg::Value(name)) => name,
        Some(other) => return Err(other.unexpected().into()),
    };
    let Some(command) = COMMANDS.iter().find(|command| name == command.name) else {
        bail!("no command {name:?}; `cargo xtask --help` lists them");
    };
    if !EXPLAINED.contains(&command.name) && asks_for_help(parser.clone()) {
        print!("{}", command.help());
        return Ok(());
    }
    (command.run)(parser)
}

/// Whether what is left of the command line asks for help.
fn asks_for_help(mut parser: Parser) -> bool {
    while let Ok(Some(arg)) = parser.next() {
        if matches!(arg, Arg::Long("help") | Arg::Short('h')) {
            return true;
        }
    }
    false
}

impl Command {
    fn help(&self) -> String {
        let Self { name, arguments, about, .. } = self;
        format!("{about}\n\nUsage: cargo xtask {name} {arguments}\n")
    }
}

fn help() -> String {
    let mut text = String::from("Usage: cargo xtask <command>\n\nCommands:\n");
    for Command { name, arguments, about, .. } in COMMANDS {
        let usage = format!("{name} {arguments}");
        text += &format!("  {usage:<37} {about}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_one_line_per_command() {
        let help = help();
        for command in COMMANDS {
            let start = format!("  {} ", command.name);
            assert_eq!(help.lines().filter(|line| line.starts_with(&start)).count(), 1, "{help}");
        }
    }

    #[test]
    fn an_unknown_command_or_flag_is_an_error() {
        assert!(dispatch(Parser::from_args(["destroy"])).is_err());
        assert!(dispatch(Parser::from_args(["--version"])).is_err());
        assert!(flag(Parser::from_args(["--skips"]), "no-skips").is_err());
        assert!(no_arguments(Parser::from_args(["x"])).is_err());
    }

    #[test]
    fn every_command_helps() {
        for command in COMMANDS {
            assert!(
                dispatch(Parser::from_args([command.name, "--help"])).is_ok(),
                "{}",
                command.name
            );
        }
        assert!(asks_for_help(Parser::from_args(["--seconds", "3", "-h"])));
        assert!(!asks_for_help(Parser::from_args(["--seconds", "3"])));
    }

    #[test]
    fn a_flag_is_seen_where_it_is() {
        assert!(flag(Parser::from_args(["--no-skips"]), "no-skips").unwrap());
        assert!(!flag(Parser::from_args::<[&str; 0]>([]), "no-skips").unwrap());
    }
}
