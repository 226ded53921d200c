//! Instructions, as valgrind counts them (`apt-get install valgrind`): the same in each run, and on
//! a busy machine too.

use std::process::Command;

/// Runs this program once more, in valgrind and with `child` in the environment variable of that
/// name; returns how many instructions the functions took that are `counted`, with all that they
/// call. Leaves the profile beside the program, for `callgrind_annotate`, under the name
/// `callgrind` and `child`.
pub(crate) fn instructions(variable: &str, child: &str, counted: &str) -> f64 {
    let program = std::env::current_exe().expect("the program has a path");
    let profile = program.with_file_name(format!("callgrind.{}", child.replace(' ', ".")));
    let child = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={counted}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .env(variable, child)
        .output();
    let output = child.expect("valgrind is installed").stderr;
    let output = String::from_utf8_lossy(&output);
    let collected = output.lines().find_map(|line| line.split_once("Collected : "));
    let collected = collected.and_then(|(_, number)| number.trim().parse::<f64>().ok());
    collected.unwrap_or_else(|| panic!("valgrind said {output}"))
}
