//! Counting instructions: a program that runs itself under valgrind.
//!
//! Of the profile that valgrind leaves, the locked instructions are counted too, which are the
//! read-modify-writes: `objdump` (of binutils) tells which they are. Only on x86-64.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::Command;

/// Set for a child: what it is to count.
const CHILD: &str = "RESUMPTION_BENCH_INSTRUCTIONS";

/// What is counted of a child: [`counted`], with all that it calls.
pub(crate) const COUNTED: &str = "*callgrind::counted*";

/// Whose locked instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each bench wants one of them")]
pub(crate) enum Whose {
    /// The program's own; not those of the system's allocator.
    Own,
    All,
}

/// What was counted of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) instructions: f64,
    /// The locked ones among them, where that can be told.
    pub(crate) locked: Option<f64>,
}

/// What this process is to count, if it is a child.
pub(crate) fn task() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Counts what a child does with this task, of the functions `of` with all that they call. Leaves its profile beside the program, for
/// `callgrind_annotate`. The disassembled objects are kept in `known` for the next child.
pub(crate) fn count(task: &str, of: &str, whose: Whose, known: &mut Locked) -> Counted {
    let program = std::env::current_exe().expect("the program has a path");
    let profile = program.with_file_name(format!("callgrind.{}", task.replace(' ', ".")));
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes"])
        .arg(format!("--toggle-collect={of}"))
        .args(["--compress-pos=no", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .env(CHILD, task)
        .output();
    let output = child.expect("valgrind is installed").stderr;
    let output = String::from_utf8_lossy(&output);
    let collected = output.lines().find_map(|line| line.split_once("Collected : "));
    let collected = collected.and_then(|(_, number)| number.trim().parse::<f64>().ok());
    let Some(instructions) = collected.filter(|count| *count > 0.0) else {
        panic!("valgrind counted nothing and said {output}")
    };
    let profile = fs::read_to_string(profile).expect("valgrind has written it");
    let counts = |object: &str| whose == Whose::All || program.to_str() == Some(object);
    Counted { instructions, locked: known.among(&profile, counts) }
}

/// Runs what is counted.
#[inline(never)]
pub(crate) fn counted<R>(run: impl FnOnce() -> R) -> R {
    std::hint::black_box(run())
}

/// The addresses of the locked instructions of some objects, by their paths.
#[derive(Debug, Default)]
pub(crate) struct Locked(HashMap<String, HashSet<u64>>);

impl Locked {
    /// How many locked instructions there are in a profile; nothing, if that cannot be told.
    ///
    /// A profile names the object, and then has a line for each instruction: its address, its line and
    /// how often it was run. What follows `calls=` is the sum of a call, and no instruction.
    fn among(&mut self, profile: &str, counts: impl Fn(&str) -> bool) -> Option<f64> {
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        let (mut object, mut is_call, mut sum) = ("", false, 0.0);
        for line in profile.lines() {
            if let Some(path) = line.strip_prefix("ob=") {
                object = path;
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line.starts_with("0x") && !std::mem::take(&mut is_call) {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
                let times: f64 = words.nth(1)?.parse().ok()?;
                if counts(object) && self.of(object)?.contains(&address) {
                    sum += times;
                }
            }
        }
        Some(sum)
    }

    fn of(&mut self, object: &str) -> Option<&HashSet<u64>> {
        if !self.0.contains_key(object) {
            self.0.insert(object.to_owned(), disassembled(object)?);
        }
        self.0.get(object)
    }
}

/// The addresses of the locked instructions of an object; an exchange with memory is one, too. Nothing, if `objdump` fails
/// or prints no instruction that is understood here: that is not the same as no locked one.
fn disassembled(object: &str) -> Option<HashSet<u64>> {
    if !std::path::Path::new(object).exists() {
        // Code without a file, such as the kernel's clock.
        return Some(HashSet::new());
    }
    let output =
        Command::new("objdump").args(["-d", "--no-show-raw-insn", object]).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let instructions = || text.lines().filter_map(|line| line.split_once(":\t"));
    instructions().next()?;
    let locked = instructions().filter_map(|(address, instruction)| {
        let is_exchange = instruction.starts_with("xchg ") && instruction.contains('(');
        let is_locked = instruction.starts_with("lock ") || is_exchange;
        is_locked.then(|| u64::from_str_radix(address.trim(), 16).ok()).flatten()
    });
    Some(locked.collect())
}
