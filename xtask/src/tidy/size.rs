//! Lengths: no `.rs` file over 700 lines, no function over 60, no README over 150.
//!
//! A function is measured from brace to brace, both lines included; a closure counts with the
//! function it stands in. The rule holds in tests, benches, examples and here as well.

use super::{Finding, Source, is_rust};

const FILE_LINES: usize = 700;
const FUNCTION_LINES: usize = 60;
const README_LINES: usize = 150;

pub(super) fn long_files(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let (lines, most) = (source.text.lines().count(), most_lines(&source.path));
        if lines > most {
            let what = format!("the file has {lines} lines, more than {most}");
            findings.push(source.finding(lines, what));
        }
    }
    findings
}

fn most_lines(path: &str) -> usize {
    match path {
        "README.md" => README_LINES,
        path if is_rust(path) => FILE_LINES,
        _ => usize::MAX,
    }
}

pub(super) fn long_functions(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for function in source.scan.iter().flat_map(|scan| &scan.functions) {
            let lines = function.lines;
            if lines > FUNCTION_LINES {
                let name = &function.name;
                let what = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES}");
                findings.push(source.finding(function.line, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    /// The text of a function with a body of so many lines, braces included.
    fn function(head: &str, lines: usize) -> String {
        format!("{head} {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_of_701_lines_is_found() {
        let (fits, long) = ("//\n".repeat(700), "//\n".repeat(701));
        let files = [("tests/a.rs", fits.as_str()), ("docs/benchmarks.md", long.as_str())];
        assert!(found(long_files, &files).is_empty());
        let findings = found(long_files, &[("benches/b.rs", &long)]);
        assert_eq!(findings, ["benches/b.rs:701: the file has 701 lines, more than 700"]);
    }

    #[test]
    fn a_readme_of_151_lines_is_found() {
        assert!(found(long_files, &[("README.md", &"\n".repeat(150))]).is_empty());
        let findings = found(long_files, &[("README.md", &"\n".repeat(151))]);
        assert_eq!(findings, ["README.md:151: the file has 151 lines, more than 150"]);
    }

    #[test]
    fn a_function_of_61_lines_is_found_wherever_it_stands() {
        let long = function("fn long()", 61);
        let nests = [
            long.clone(),
            format!("impl S {{\n{long}}}\n"),
            format!("trait T {{\n{long}}}\n"),
            format!("mod m {{\nmod n {{\n{long}}}\n}}\n"),
            format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"),
            format!("proptest! {{\n#[test]\n{long}}}\n"),
            format!("macro_rules! m {{ () => {{\n{long}}} }}\n"),
        ];
        for text in nests {
            let findings = found(long_functions, &[("tests/a.rs", &text)]);
            assert_eq!(findings.len(), 1, "{text}");
            assert!(findings[0].contains("`long` has 61 lines"), "{findings:?}");
        }
    }

    #[test]
    fn sixty_lines_pass_and_the_signature_does_not_count() {
        let fits =
            function("fn fits(\n    a: u8,\n    b: u8,\n) -> u8\nwhere\n    u8: Copy,\n", 60);
        assert!(found(long_functions, &[("src/a.rs", &fits)]).is_empty());
    }

    #[test]
    fn closures_and_inner_functions_count_to_the_outer_one() {
        let closure =
            format!("fn outer() {{\n    let c = || {{\n{}    }};\n}}\n", "c();\n".repeat(57));
        let inner = format!("fn outer() {{\n{}}}\n", function("fn inner()", 59));
        for text in [closure, inner] {
            let findings = found(long_functions, &[("src/a.rs", &text)]);
            assert_eq!(findings.len(), 1, "{text}");
            assert!(findings[0].contains("`outer` has 61 lines"), "{findings:?}");
        }
    }
}
