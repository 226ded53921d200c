//! Words that do not belong into a finished tree: unfinished work, tests that are switched off, and
//! paths that exist on one machine only. These are looked for in every text file, comments included.

use super::{Finding, Source};

/// Put together here so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
    concat!("#[", "ignore"),
];

/// Where systems keep what is somebody's own, without the slash before it.
const MACHINE: &[&str] = &["home", "root", "Users"];

pub(super) fn unfinished(sources: &[Source]) -> Vec<Finding> {
    by_line(sources, |line| {
        let word = UNFINISHED.iter().find(|word| has_word(line, word))?;
        Some(format!("`{word}`: finish it, or leave it out"))
    })
}

pub(super) fn machine_paths(sources: &[Source]) -> Vec<Finding> {
    by_line(sources, |line| {
        let folder = MACHINE.iter().find(|folder| has_folder(line, folder))?;
        Some(format!("a path in `/{folder}` exists on one machine only"))
    })
}

fn by_line(sources: &[Source], judge: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for (idx, line) in source.text.lines().enumerate() {
            findings.extend(judge(line).map(|what| source.finding(idx + 1, what)));
        }
    }
    findings
}

/// Whether the word stands in the line, and not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let goes_on = line[start + word.len()..].starts_with(is_part);
        !line[..start].ends_with(is_part) && !goes_on
    })
}

/// Whether the line names this folder from the root on: a relative path, an address or a variable
/// before it makes it something else.
fn has_folder(line: &str, folder: &str) -> bool {
    let is_before = |c: char| c.is_alphanumeric() || "._-~})$".contains(c);
    let is_part = |c: char| c.is_alphanumeric() || "._-".contains(c);
    line.match_indices(&format!("/{folder}")).any(|(start, path)| {
        !line[..start].ends_with(is_before) && !line[start + path.len()..].starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn unfinished_work_is_found_in_code_comments_and_documents() {
        for word in UNFINISHED {
            for path in ["src/a.rs", "README.md", "Cargo.toml", ".ci/run"] {
                let text = format!("\n// {word}");
                let findings = found(unfinished, &[(path, &text)]);
                assert_eq!(findings.len(), 1, "{path}: {text}");
                assert!(findings[0].starts_with(&format!("{path}:2: ")), "{findings:?}");
            }
        }
    }

    #[test]
    fn its_forms_are_found_too() {
        for form in ["// @:", "//@(me)", "x.@()", "@ = \"slow\"]", "  @"] {
            let text = form.replace('@', UNFINISHED[0]);
            assert_eq!(found(unfinished, &[("notes.md", &text)]).len(), 1, "{text}");
        }
        let ignored = format!("{} = \"slow\"]", UNFINISHED[4]);
        assert_eq!(found(unfinished, &[("notes.md", &ignored)]).len(), 1);
    }

    #[test]
    fn longer_words_are_not_found() {
        for text in ["METHODS", "_TO_DO", "not_todo", "PHOTODOC", "ignored"] {
            assert!(found(unfinished, &[("a.md", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for folder in MACHINE {
            for form in ["@", "see @/x/y", "\"@/x\"", "a=@/x", "(@)", "file://@/x", "`@`"] {
                let text = form.replace('@', &format!("/{folder}"));
                assert_eq!(found(machine_paths, &[("a.md", &text)]).len(), 1, "{text}");
            }
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        let free = [
            "https://example.com/home/page",
            "../home/x",
            "target/root",
            "$HOME/root",
            "${DIR}/home",
            "~/home",
            "/homepage",
            "/users",
            "/tmp/x",
            "/etc/os-release",
        ];
        for text in free {
            assert!(found(machine_paths, &[("a.md", text)]).is_empty(), "{text}");
        }
    }
}
