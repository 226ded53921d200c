//! Counting instructions: a program that runs itself under valgrind.

use std::process::Command;

/// Set for a child: what it is to count.
const CHILD: &str = "RESUMPTION_BENCH_INSTRUCTIONS";

/// What is counted of a child: [`counted`], with all that it calls.
const COUNTED: &str = "--toggle-collect=*callgrind::counted*";

/// What this process is to count, if it is a child.
pub(crate) fn task() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Instructions of a child with this task. Leaves its profile beside the program, for
/// `callgrind_annotate`.
pub(crate) fn count(task: &str) -> f64 {
    let program = std::env::current_exe().expect("the program has a path");
    let profile = program.with_file_name(format!("callgrind.{}", task.replace(' ', ".")));
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", COUNTED])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .env(CHILD, task)
        .output();
    let output = child.expect("valgrind is installed").stderr;
    let output = String::from_utf8_lossy(&output);
    let collected = output.lines().find_map(|line| line.split_once("Collected : "));
    let collected = collected.and_then(|(_, number)| number.trim().parse::<f64>().ok());
    match collected {
        Some(count) if count > 0.0 => count,
        _ => panic!("valgrind counted nothing and said {output}"),
    }
}

/// Runs what is counted.
#[inline(never)]
pub(crate) fn counted<R>(run: impl FnOnce() -> R) -> R {
    std::hint::black_box(run())
}
