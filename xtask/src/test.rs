//! `cargo xtask test`: the test command. It runs every check and every test, in the order of
//! [`steps`], stops at the first that fails, and ends with the totals of the test runner.

use std::process::Command;

use anyhow::Result;
use lexopt::Parser;

use crate::debian::{self, Skips};
use crate::step::{self, cargo};
use crate::{chaos, deps, instructions, models, plants, shuttle, tidy};

/// The member whose tests are started with the library's default features alone.
const DEFAULT_TESTS: &str = "default-tests";

pub(crate) fn run(parser: Parser) -> Result<()> {
    let no_skips = crate::flag(parser, "no-skips")?;
    let mut skips = Skips::default();
    step::step("preflight", false, || {
        skips = debian::prepare(no_skips)?;
        skips.add(deps::unresolved()?, no_skips)
    })?;
    let tests = Tests::new(&skips);
    if !tests.nextest {
        let has_it = "`cargo install --locked cargo-nextest`";
        skips.note(format!("a test that waits for ever was not ended; what does that: {has_it}"));
    }
    let steps = steps(&tests);
    let last = steps.len() - 1;
    for (idx, Step { name, work }) in steps.into_iter().enumerate() {
        step::step(name, idx == last, || work.run())?;
    }
    skips.lines().try_for_each(|line| step::say(&line))
}

struct Step {
    name: &'static str,
    work: Work,
}

enum Work {
    Commands(Vec<Command>),
    /// Commands, the last of which runs the models.
    Models(Vec<Command>),
    Call(fn() -> Result<()>),
}

impl Work {
    fn run(self) -> Result<()> {
        match self {
            Work::Commands(commands) => {
                commands.into_iter().try_for_each(|mut c| step::run(&mut c))
            }
            Work::Models(mut commands) => {
                let models = commands.pop().expect("the models are the last command");
                Work::Commands(commands).run()?;
                models::run(models)?.bugs().lines().try_for_each(step::say)
            }
            Work::Call(check) => check(),
        }
    }
}

fn steps(tests: &Tests) -> Vec<Step> {
    let commands = |name, commands| Step { name, work: Work::Commands(commands) };
    let gate = if tests.counts_instructions() { instructions::check } else { instructions::skip };
    vec![
        commands("formatting", vec![cargo(&["fmt", "--all", "--check"])]),
        commands("clippy", clippy()),
        Step { name: "tidy", work: Work::Call(tidy::check) },
        Step { name: "dependencies", work: Work::Call(deps::check) },
        commands("docs", docs()),
        commands("doc tests", vec![tests.doc()]),
        Step { name: "models", work: models(tests) },
        commands("chaos", chaos::quick()),
        commands("shuttle", shuttle::quick()),
        Step { name: "planted bugs", work: Work::Call(plants::check) },
        commands("models on the real epoch", real_models(tests)),
        Step { name: "instructions", work: Work::Call(gate) },
        commands("default features", vec![tests.of(&["--package", DEFAULT_TESTS])]),
        commands("examples", vec![tests.together(cargo(&["build", "--examples"]))]),
        commands("tests", vec![tests.together(tests.of(&[]))]),
    ]
}

/// Every target with the features that the dev-dependency on itself turns on, then the library as
/// users get it.
fn clippy() -> Vec<Command> {
    vec![
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        cargo(&["clippy", "--package", "resumption", "--lib", "--", "-D", "warnings"]),
        with_feature("rustls"),
        with_feature("openssl"),
    ]
}

/// The library with one of its features.
fn with_feature(feature: &str) -> Command {
    let library = ["clippy", "--package", "resumption", "--lib", "--features", feature];
    with(cargo(&library), &["--", "-D", "warnings"])
}

/// The documentation of the private items, where most of what explains the engine stands, and whose
/// links are checked in no other way; then the documentation as it is published, which stays.
fn docs() -> Vec<Command> {
    let doc = || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        doc
    };
    vec![with(doc(), &["--document-private-items"]), doc()]
}

/// The loom models, and the bugs that they catch. Clippy sees the code that only loom compiles nowhere
/// else.
///
/// Nothing switches this step off: it is there if the member is, and says so if it is not.
fn models(tests: &Tests) -> Work {
    if !tests.models {
        return Work::Call(|| step::say("    there are no models: loom-tests/ is not in the tree"));
    }
    let clippy = models::on_models(cargo(&["clippy", "--all-targets"]));
    let models = tests.told(models::command(tests.nextest));
    Work::Models(vec![with(clippy, &["--", "-D", "warnings"]), models])
}

/// The few models on the real epoch: a build of their own, for the epoch is built for loom too.
fn real_models(tests: &Tests) -> Vec<Command> {
    if tests.models { vec![tests.told(models::real::on_this_toolchain())] } else { Vec::new() }
}

fn with(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    command
}

/// What runs all tests of a selection but the doc tests.
pub(crate) fn runner(has_nextest: bool) -> &'static [&'static str] {
    if has_nextest { &["nextest", "run"] } else { &["test", "--no-fail-fast", "--tests"] }
}

/// Whether nextest is installed.
pub(crate) fn has_nextest() -> bool {
    step::read(&mut cargo(&["nextest", "--version"])).is_ok()
}

/// How tests are started: by nextest where it is installed, else by cargo itself; always told what
/// they have to skip, whatever the caller's environment says.
struct Tests {
    nextest: bool,
    models: bool,
    skip: Option<String>,
}

impl Tests {
    fn new(skips: &Skips) -> Self {
        let models = crate::root().join(models::PACKAGE).join("Cargo.toml").exists();
        Self { nextest: has_nextest(), models, skip: skips.value() }
    }

    /// All tests of a selection but the doc tests.
    fn of(&self, selection: &[&str]) -> Command {
        with(self.told(cargo(runner(self.nextest))), selection)
    }

    /// Whether there is a program that counts instructions.
    fn counts_instructions(&self) -> bool {
        let mut skipped = self.skip.iter().flat_map(|skip| skip.split(','));
        !skipped.any(|package| package == debian::VALGRIND)
    }

    fn doc(&self) -> Command {
        self.together(self.told(cargo(&["test", "--doc"])))
    }

    /// The command for the workspace as one, without the members that have a step of their own.
    fn together(&self, mut command: Command) -> Command {
        command.args(["--workspace", "--exclude", DEFAULT_TESTS]);
        if self.models {
            command.args(["--exclude", models::PACKAGE]);
        }
        command
    }

    fn told(&self, command: Command) -> Command {
        let mut command = step::undisturbed(command);
        match &self.skip {
            Some(skip) => command.env(debian::SKIP, skip),
            None => command.env_remove(debian::SKIP),
        };
        command
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    /// The arguments of a step's commands, by its name.
    fn lines(steps: &[Step], name: &str) -> Vec<String> {
        let step = steps.iter().find(|step| step.name == name).unwrap();
        let commands = match &step.work {
            Work::Commands(commands) | Work::Models(commands) => commands,
            Work::Call(_) => panic!("{name} is no command"),
        };
        let words = |command: &Command| {
            let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
            words.join(" ")
        };
        commands.iter().map(words).collect()
    }

    fn tests(nextest: bool, models: bool, skip: Option<&str>) -> Tests {
        Tests { nextest, models, skip: skip.map(String::from) }
    }

    #[test]
    fn the_tests_of_the_workspace_come_last() {
        for (nextest, runner) in [(true, "nextest run "), (false, "test --no-fail-fast --tests ")] {
            let steps = steps(&tests(nextest, true, None));
            assert_eq!(steps.last().unwrap().name, "tests");
            let expected = "--workspace --exclude default-tests --exclude loom-tests";
            assert_eq!(lines(&steps, "tests"), [format!("{runner}{expected}")]);
        }
    }

    #[test]
    fn no_step_unites_the_default_features_with_others() {
        let steps = steps(&tests(true, true, None));
        assert_eq!(lines(&steps, "default features"), ["nextest run --package default-tests"]);
    }

    #[test]
    fn warnings_are_denied_with_all_features_with_each_and_with_none() {
        let steps = steps(&tests(true, true, None));
        let clippy = [lines(&steps, "clippy"), lines(&steps, "models")].concat();
        let library = "--package resumption --lib";
        for selection in [
            "--workspace --all-targets",
            library,
            &format!("{library} --features rustls"),
            &format!("{library} --features openssl"),
            "--all-targets --package loom-tests --release",
        ] {
            let expected = format!("clippy {selection} -- -D warnings");
            assert!(clippy.contains(&expected), "{clippy:?}");
        }
    }

    #[test]
    fn the_models_are_run_with_loom_if_they_are_there() {
        let steps = steps(&tests(true, true, None));
        assert_eq!(lines(&steps, "models")[1], "nextest run --package loom-tests --release");
        let Work::Models(commands) = models(&tests(true, true, None)) else { unreachable!() };
        for command in commands {
            let flags = (OsStr::new("RUSTFLAGS"), Some(OsStr::new("--cfg loom")));
            assert!(command.get_envs().any(|env| env == flags));
        }
        let member = crate::root().join(models::PACKAGE).join("Cargo.toml");
        assert_eq!(Tests::new(&Skips::default()).models, member.exists());
    }

    #[test]
    fn the_models_on_the_real_epoch_are_run_if_they_are_there() {
        let expected = "test --package loom-tests --release --test real";
        let name = "models on the real epoch";
        assert_eq!(lines(&steps(&tests(true, true, None)), name), [expected]);
        assert!(lines(&steps(&tests(true, false, None)), name).is_empty());
    }

    #[test]
    fn instructions_are_counted_unless_that_is_skipped() {
        let counts = |skip| tests(true, true, skip).counts_instructions();
        assert!(counts(None) && counts(Some("curl")) && !counts(Some("curl,valgrind")));
        assert!(steps(&tests(true, true, None)).iter().any(|step| step.name == "instructions"));
    }

    #[test]
    fn every_test_is_told_what_to_skip_and_inherits_nothing() {
        for skip in [Some("curl"), None] {
            let tests = tests(false, true, skip);
            for command in [tests.of(&[]), tests.doc()] {
                let told = command.get_envs().find(|(name, _)| *name == debian::SKIP);
                assert_eq!(told, Some((OsStr::new(debian::SKIP), skip.map(OsStr::new))));
            }
        }
    }
}
