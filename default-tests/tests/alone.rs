//! The library is built here with its default features, and with nothing that another feature
//! would bring.

use std::env;
use std::process::Command;

#[test]
fn the_features_are_the_default_ones() {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--package", "default-tests", "--edges", "normal,dev,features"])
        .args(["--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so it can be started");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("names of packages are ASCII");
    let lines: Vec<&str> = tree.lines().filter(|line| line.starts_with("resumption ")).collect();
    assert!(lines.iter().any(|line| line.contains("feature \"default\"")), "{tree}");
    assert!(lines.iter().all(|line| !line.contains("feature \"rustls\"")), "{tree}");
    assert!(!tree.lines().any(|line| line.starts_with("rustls ")), "{tree}");
}
