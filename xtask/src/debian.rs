//! What the tests need beyond Rust: it is installed where that is possible, else named.
//!
//! As root on Debian (or a system made from it) the missing packages are installed. Elsewhere the
//! tests that need them are skipped, and the end of the output says which and why; with
//! `--no-skips` the run fails before the first step instead. Whoever has an OpenSSL elsewhere says where by the variables
//! of `openssl-sys`, and needs no package for it.
//!
//! # How a test knows
//!
//! The variable [`SKIP`], `RESUMPTION_SKIP=openssl,curl`, holds the programs that are missing,
//! with commas between them. It is set by `cargo xtask test` for every test that it starts, and by
//! nobody else. A test that drives a program looks for its name there, and returns early if it
//! finds it; otherwise it starts the program and *fails* when that is impossible. So a test that is
//! started by hand never passes without having tested something.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{instructions, step};

/// The environment variable that names to the tests what they have to do without.
pub(crate) const SKIP: &str = "RESUMPTION_SKIP";

/// The package, and the program, that counts instructions.
pub(crate) const VALGRIND: &str = "valgrind";

/// The package that has `objdump`, which tells the locked instructions.
const OBJDUMP: &str = "binutils";

/// The crate that needs OpenSSL's library.
const BINDINGS: &str = "openssl-sys";

/// The variables that tell it where that is, so that it asks nobody: all of one set.
const OPENSSL_IS_AT: [&[&str]; 2] = [&["OPENSSL_DIR"], &["OPENSSL_LIB_DIR", "OPENSSL_INCLUDE_DIR"]];

/// Something that cargo does not bring.
struct Need {
    /// The Debian package.
    package: &'static str,
    probe: Probe,
    /// Needed only if this crate is in the lock file.
    because_of: Option<&'static str>,
    without: Without,
}

enum Probe {
    /// A program on the `PATH`, by one of these names.
    Program(&'static [&'static str]),
    /// A library that `pkg-config` knows.
    Library(&'static str),
}

enum Without {
    /// These tests are skipped; they know it by the package's name in [`SKIP`].
    Skips(&'static str),
    /// Nothing can be built.
    Fails,
}

const NEEDS: &[Need] = &[
    Need {
        package: "openssl",
        probe: Probe::Program(&["openssl"]),
        because_of: None,
        without: Without::Skips("the tests that drive the server with `openssl s_client`"),
    },
    Need {
        package: "curl",
        probe: Probe::Program(&["curl"]),
        because_of: None,
        without: Without::Skips("the tests that drive the server with `curl`"),
    },
    Need {
        package: VALGRIND,
        probe: Probe::Program(&["valgrind"]),
        because_of: None,
        without: Without::Skips("the count of instructions"),
    },
    Need {
        package: OBJDUMP,
        probe: Probe::Program(&["objdump"]),
        because_of: None,
        without: Without::Skips("the count of locked instructions"),
    },
    Need {
        package: "gcc",
        probe: Probe::Program(&["cc", "gcc", "clang"]),
        because_of: Some("cc"),
        without: Without::Fails,
    },
    Need {
        package: "pkg-config",
        probe: Probe::Program(&["pkg-config"]),
        because_of: Some(BINDINGS),
        without: Without::Fails,
    },
    Need {
        package: "libssl-dev",
        probe: Probe::Library("openssl"),
        because_of: Some(BINDINGS),
        without: Without::Fails,
    },
];

/// What is missing, and what is skipped for it.
#[derive(Default)]
pub(crate) struct Skips {
    skipped: Vec<(&'static str, &'static str)>,
    /// Checks that would check nothing here, whatever is installed.
    idle: Vec<String>,
    /// What the tests do without.
    notes: Vec<String>,
}

impl Skips {
    /// The value of [`SKIP`], if there is anything to skip.
    pub(crate) fn value(&self) -> Option<String> {
        let names: Vec<&str> = self.skipped.iter().map(|(package, _)| *package).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// One line for each missing thing, for each idle check, and for each note.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let missing = self.skipped.iter().map(|(package, tests)| {
            format!("{tests} (the Debian package `{package}` or its like is missing)")
        });
        let skipped =
            missing.chain(self.idle.iter().cloned()).map(|what| format!("skipped: {what}"));
        skipped.chain(self.notes.iter().map(|what| format!("note: {what}")))
    }

    /// Adds what no package of Debian's has, and whose lack leaves no test out.
    pub(crate) fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// Adds a check that would check nothing; an error, if nothing may be skipped.
    pub(crate) fn add(&mut self, idle: Option<String>, no_skips: bool) -> Result<()> {
        match idle {
            Some(what) if no_skips => bail!("--no-skips forbids to skip {what}"),
            what => self.idle.extend(what),
        }
        Ok(())
    }
}

/// Whether there is a program that tells locked instructions.
pub(crate) fn has_objdump() -> bool {
    NEEDS.iter().any(|need| need.package == OBJDUMP && is_there(&need.probe))
}

/// Makes what the tests need be there, as far as that is possible here.
pub(crate) fn prepare(no_skips: bool) -> Result<Skips> {
    let lock = fs::read_to_string(crate::root().join("Cargo.lock")).context("Cargo.lock")?;
    let is_set = |name: &str| env::var_os(name).is_some();
    let needs: Vec<&Need> = NEEDS.iter().filter(|need| is_needed(need, &lock, is_set)).collect();
    let mut missing = missing_of(&needs);
    if !missing.is_empty() && may_install()? {
        install(&missing)?;
        missing = missing_of(&needs);
    }
    if missing.is_empty() {
        let packages: Vec<&str> = needs.iter().map(|need| need.package).collect();
        step::say(&format!("    found: {}", packages.join(", ")))?;
    }
    let mut skips = judge(&missing, no_skips)?;
    skips.add(instructions::unjudged()?, no_skips)?;
    skips.lines().try_for_each(|line| step::say(&format!("    {line}")))?;
    Ok(skips)
}

fn is_needed(need: &Need, lock: &str, is_set: impl Fn(&str) -> bool) -> bool {
    let mut places = OPENSSL_IS_AT.iter();
    let is_told = need.because_of == Some(BINDINGS)
        && places.any(|variables| variables.iter().all(|name| is_set(name)));
    let is_locked = |name| lock.contains(&format!("\nname = \"{name}\"\n"));
    !is_told && need.because_of.is_none_or(is_locked)
}

fn missing_of<'a>(needs: &[&'a Need]) -> Vec<&'a Need> {
    needs.iter().copied().filter(|need| !is_there(&need.probe)).collect()
}

fn is_there(probe: &Probe) -> bool {
    match probe {
        Probe::Program(names) => {
            let path = env::var_os("PATH").unwrap_or_default();
            names.iter().any(|name| is_on(&path, name))
        }
        Probe::Library(name) => {
            step::read(Command::new("pkg-config").args(["--exists", name])).is_ok()
        }
    }
}

fn is_on(path: &OsStr, program: &str) -> bool {
    env::split_paths(path).any(|folder| folder.join(program).is_file())
}

fn may_install() -> Result<bool> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    Ok(is_debian(&release) && step::read(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Whether an `os-release` file is Debian's, or that of a system which says it is like Debian.
fn is_debian(release: &str) -> bool {
    let mut lines = release.lines().filter_map(|line| line.split_once('='));
    lines.any(|(key, value)| {
        let value = value.trim_matches(['"', '\'']);
        matches!(key, "ID" | "ID_LIKE") && value.split(' ').any(|word| word == "debian")
    })
}

/// Installs the packages. That it cannot (no network, say) is told, and is not the end: what is
/// still missing afterwards is judged like everywhere else.
fn install(missing: &[&Need]) -> Result<()> {
    let packages = missing.iter().map(|need| need.package);
    let mut update = Command::new("apt-get");
    update.args(["-q", "update"]);
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["-q", "-y", "--no-install-recommends", "install"]).args(packages);
    match step::run(&mut update).and_then(|()| step::run(&mut install)) {
        Ok(()) => Ok(()),
        Err(error) => step::say(&format!("    {error:#}")),
    }
}

/// What is skipped; an error that names all that may not be missing, if anything is of that.
fn judge(missing: &[&Need], no_skips: bool) -> Result<Skips> {
    let (mut skips, mut objections) = (Skips::default(), Vec::new());
    for need in missing {
        let package = need.package;
        match need.without {
            Without::Skips(tests) if no_skips => objections
                .push(format!("`{package}` is missing, and --no-skips forbids to skip {tests}")),
            Without::Skips(tests) => skips.skipped.push((package, tests)),
            Without::Fails => objections.push(format!(
                "`{package}` is missing: without it nothing can be built{}",
                other_way(need)
            )),
        }
    }
    if !objections.is_empty() {
        bail!("{}", objections.join("\n"));
    }
    Ok(skips)
}

/// What helps instead of a package, as the end of a sentence.
fn other_way(need: &Need) -> String {
    if need.because_of != Some(BINDINGS) {
        return String::new();
    }
    let places = OPENSSL_IS_AT.map(|variables| variables.join(" and "));
    format!("; or set {}", places.join(", or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(package: &str) -> &'static Need {
        NEEDS.iter().find(|need| need.package == package).unwrap()
    }

    #[test]
    fn a_missing_program_is_skipped_and_named() {
        let skips = judge(&[need("openssl"), need("curl")], false).unwrap();
        assert_eq!(skips.value().as_deref(), Some("openssl,curl"));
        let lines: Vec<String> = skips.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("`openssl`") && lines[0].contains("s_client"), "{lines:?}");
        assert!(lines[1].contains("`curl`"), "{lines:?}");
    }

    #[test]
    fn nothing_missing_skips_nothing() {
        let skips = judge(&[], true).unwrap();
        assert_eq!(skips.value(), None);
        assert_eq!(skips.lines().count(), 0);
    }

    #[test]
    fn an_idle_check_is_a_skip_and_no_program() {
        let mut skips = judge(&[need("curl")], false).unwrap();
        skips.add(Some("the judgement (another compiler)".to_owned()), false).unwrap();
        skips.add(None, false).unwrap();
        assert_eq!(skips.value().as_deref(), Some("curl"));
        let lines: Vec<String> = skips.lines().collect();
        assert_eq!(lines[1..], ["skipped: the judgement (another compiler)"]);
        let error = skips.add(Some("the judgement".to_owned()), true).unwrap_err().to_string();
        assert!(error.contains("--no-skips") && error.contains("the judgement"), "{error}");
        skips.add(None, true).unwrap();
    }

    #[test]
    fn without_skips_a_missing_program_fails_and_is_named() {
        let error = judge(&[need("curl")], true).err().unwrap().to_string();
        assert!(error.contains("`curl`") && error.contains("--no-skips"), "{error}");
    }

    #[test]
    fn all_that_may_not_be_missing_is_named_at_once() {
        let error = judge(&[need("openssl"), need("curl")], true).err().unwrap().to_string();
        assert!(error.contains("`openssl`") && error.contains("`curl`"), "{error}");
        let missing = [need("curl"), need("gcc"), need("libssl-dev")];
        let error = judge(&missing, false).err().unwrap().to_string();
        assert!(error.contains("`gcc`") && error.contains("`libssl-dev`"), "{error}");
        assert!(!error.contains("`curl`"), "{error}");
    }

    #[test]
    fn where_openssl_is_may_be_told() {
        let lock = "[[package]]\nname = \"openssl-sys\"\n";
        for package in ["pkg-config", "libssl-dev"] {
            let is_needed =
                |set: &[&str]| is_needed(need(package), lock, |name| set.contains(&name));
            assert!(is_needed(&[]) && is_needed(&["OPENSSL_LIB_DIR"]));
            assert!(!is_needed(&["OPENSSL_DIR"]));
            assert!(!is_needed(&["OPENSSL_LIB_DIR", "OPENSSL_INCLUDE_DIR"]));
            let error = judge(&[need(package)], false).err().unwrap().to_string();
            assert!(error.contains("OPENSSL_DIR") && error.contains("OPENSSL_LIB_DIR"), "{error}");
        }
        assert!(is_needed(need("curl"), lock, |_| true));
    }

    #[test]
    fn a_missing_compiler_fails_in_any_case() {
        for no_skips in [false, true] {
            assert!(judge(&[need("gcc")], no_skips).is_err());
        }
    }

    #[test]
    fn what_a_crate_needs_is_needed_with_that_crate_only() {
        let lock = "[[package]]\nname = \"openssl-sys\"\nversion = \"0.9.1\"\n";
        let is_needed = |package, lock: &str| is_needed(need(package), lock, |_| false);
        assert!(is_needed("libssl-dev", lock));
        assert!(!is_needed("libssl-dev", "[[package]]\nname = \"openssl\"\n"));
        assert!(is_needed("curl", ""));
    }

    #[test]
    fn debian_and_its_children_are_known_by_their_release_file() {
        assert!(is_debian("NAME=\"Debian GNU/Linux\"\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nHOME_URL=\"https://debian\"\n"));
        assert!(!is_debian("ID=alpine\nNAME=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn a_program_is_looked_for_on_the_path() {
        let path = env::var_os("PATH").unwrap();
        assert!(is_on(&path, "cargo"), "the test itself is run by cargo");
        assert!(!is_on(&path, "no-such-program"));
        assert!(!is_on(OsStr::new(""), "cargo"));
    }
}
