//! Running one command of many, so that whoever watches sees what runs and how long it took.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// `cargo` at the root of the workspace, as the user would run it by hand.
///
/// `cargo run` tells a program about its package by environment variables. They are taken away
/// here: build scripts watch some of them, and would run again each time that the tests are
/// started by another way.
pub(crate) fn cargo(args: &[&str]) -> Command {
    cargo_named(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
}

/// As [`cargo`], by this program.
pub(crate) fn cargo_named(program: &OsStr, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(crate::root());
    forget(&mut command, belongs_to_this_package);
    command
}

/// Takes from a command what the caller's environment has under such names.
pub(crate) fn forget(command: &mut Command, is_such: impl Fn(&str) -> bool) {
    for (name, _) in env::vars_os().filter(|(name, _)| is_such(&name.to_string_lossy())) {
        command.env_remove(name);
    }
}

/// A command on tests for which the caller's environment sets neither how much they do nor what is planted.
pub(crate) fn undisturbed(mut command: Command) -> Command {
    forget(&mut command, |name| name.starts_with("RESUMPTION_"));
    command
}

/// Shows the command, runs it, and fails if it does.
///
/// Its two streams become one: what a reader sees in a pipe or a log keeps its order.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(&format!("    {}", shown(command)))?;
    let status = command
        .stdin(Stdio::null())
        .stderr(io::stdout())
        .status()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}`: {status}", shown(command));
    }
    Ok(())
}

/// Runs a program whose two streams are its own: a reader of the one may not want the other.
pub(crate) fn run_shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}`: {status}", shown(command));
    }
    Ok(())
}

/// Runs the command unseen and returns what it printed.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}`: {}\n{said}", shown(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs one named step: a heading before it, the time that it took after it.
///
/// After the last step nothing is said, so that the output ends with the step's own words.
pub(crate) fn step(name: &str, is_last: bool, work: impl FnOnce() -> Result<()>) -> Result<()> {
    say(&format!("==> {name}"))?;
    let start = Instant::now();
    work().with_context(|| format!("step `{name}` failed"))?;
    if !is_last {
        say(&format!("    {name}: ok, {:.1} s\n", start.elapsed().as_secs_f64()))?;
    }
    Ok(())
}

/// Prints a line at once, before the next command prints its own.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn belongs_to_this_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// The command line as one would type it, with the variables that were set for it.
fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)))
        .collect();
    let program = OsString::from(command.get_program());
    let is_cargo = env::var_os("CARGO").is_some_and(|cargo| cargo == program);
    words.push(if is_cargo { "cargo".into() } else { quoted(&program) });
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.contains(|c: char| c.is_whitespace() || "\"'$&;|<>*".contains(c)) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("prog");
        command.args(["--flag", "two words"]).env("FLAGS", "--cfg loom").env_remove("GONE");
        assert_eq!(shown(&command), "FLAGS='--cfg loom' prog --flag 'two words'");
    }

    #[test]
    fn a_failing_step_says_which_it_was() {
        let error = step("planted", false, || run(&mut Command::new("false"))).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("step `planted` failed") && text.contains("`false`"), "{text}");
    }

    #[test]
    fn what_cannot_be_run_is_an_error() {
        assert!(run(&mut Command::new("./no-such-program")).is_err());
        assert!(read(&mut Command::new("./no-such-program")).is_err());
        assert!(read(&mut Command::new("false")).is_err());
    }

    #[test]
    fn cargo_forgets_the_package_that_calls_it() {
        let removed = cargo(&[]).get_envs().filter(|(_, value)| value.is_none()).count();
        let names = env::vars_os().map(|(name, _)| name);
        let inherited = names.filter(|name| belongs_to_this_package(&name.to_string_lossy()));
        let inherited = inherited.count();
        assert!(inherited > 0, "the test itself is run by cargo");
        assert_eq!(removed, inherited);
    }
}
