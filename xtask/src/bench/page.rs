//! `docs/benchmarks.md`: where we lose first, then the goals, then everything.

use super::plots::Plot;
use super::results::{Figure, Kind, Part, Verdict, rounded};
use super::run::Commit;
use super::{Outcome, goals, minutes};

/// How the page is to be read.
const READING: &str = "\
*ours / theirs* is how many times as good ours are: above 1 resumption is ahead, whether more or less of the unit is
better. Contestants take turns in one process; the ratio is the median over the rounds, each with its neighbour in time,
and in brackets stands its interval: all rounds but the lowest and the highest; of many rounds so many at each end are left out that
it still holds the true median in 98 of 100 cases. A *win* needs that interval above 1 and the
contestants' own intervals apart; a *loss* needs no more than the interval below 1; the rest is a *tie*, as is what was measured
once and differs by less than 5 %. *Bounded* contestants
have a limit on sessions; the maps that have none are the floor for features. *found* is the share of the lookups that found
their session: who finds fewer has less to do, so shares that are a point or more apart stand beside each other's, and are
compared like everything else.";

pub(super) fn of(command: &str, outcomes: &[Outcome], plots: &[Plot]) -> String {
    let figures: Vec<&Figure> = outcomes.iter().flat_map(|one| &one.results.figures).collect();
    let mut page = head(command, outcomes);
    page += "\n## Where we lose\n\nThe worst ratio to a contestant comes first. What we ask of ourselves and miss is below, under the goals.\n\n";
    page += &losses(&figures);
    page += "\n## Where it is a tie\n\n";
    page += &ties(&figures);
    page += "\n## The goals\n\nAgainst the best contestant, at the number of threads and in the size that is the worst for us.\n\n";
    let header = ["goal", "wanted", "reached", ""].map(String::from);
    let mut rows = vec![header.to_vec()];
    rows.extend(goals::rows(&figures).into_iter().map(|row| row.to_vec()));
    page += &markdown(&rows);
    for plot in plots.iter().filter(|plot| plot.bench.is_none()) {
        page += &image(plot);
    }
    let same = Same::of(outcomes);
    for outcome in outcomes {
        page += &section(outcome, plots, same);
    }
    page
}

fn head(command: &str, outcomes: &[Outcome]) -> String {
    let took = outcomes.iter().map(|one| one.run.took).sum();
    let same = Same::of(outcomes);
    let machine = match machines(outcomes).next() {
        None => "an unknown machine",
        Some(machine) if same.machine => machine,
        Some(_) => "different machines",
    };
    let commit = if same.commit {
        named_commit(outcomes.iter().find_map(|one| one.run.commit.as_ref()))
    } else {
        "different commits".to_owned()
    };
    let named = if same.machine && same.commit { "" } else { ": they are named with the benches" };
    let minutes = minutes(took);
    let head = format!(
        "# Benchmarks\n\nWritten by `{command}`, in {minutes} minutes, on {machine}, of {commit}{named}"
    );
    head + ".\n`cargo bench -p benches --bench <name> -- --help` says how to run one alone.\n\n"
        + READING
        + "\n"
}

/// What is the same of all benches, as far as they have run.
#[derive(Clone, Copy)]
struct Same {
    commit: bool,
    machine: bool,
}

impl Same {
    fn of(outcomes: &[Outcome]) -> Self {
        let commits = outcomes.iter().filter_map(|one| one.run.commit.as_ref());
        Self { commit: is_one(commits), machine: is_one(machines(outcomes)) }
    }
}

fn machines(outcomes: &[Outcome]) -> impl Iterator<Item = &str> {
    outcomes.iter().map(|one| one.results.machine.as_str()).filter(|machine| !machine.is_empty())
}

/// Whether all are equal.
fn is_one<T: PartialEq>(mut all: impl Iterator<Item = T>) -> bool {
    let first = all.next();
    all.all(|other| Some(other) == first)
}

fn named_commit(commit: Option<&Commit>) -> String {
    commit.map_or("an unknown commit".to_owned(), Commit::to_string)
}

/// A line for each question in which we lose to anybody, the worst first.
fn losses(figures: &[&Figure]) -> String {
    let mut questions: Vec<(String, Vec<&Figure>)> = Vec::new();
    for figure in of_verdict(figures, Verdict::Loss) {
        let asked = figure.asked();
        match questions.iter_mut().find(|(seen, of)| *seen == asked && of[0].unit == figure.unit) {
            Some((_, losses)) => losses.push(figure),
            None => questions.push((asked, vec![figure])),
        }
    }
    if questions.is_empty() {
        return "Nowhere, in this run.\n".to_owned();
    }
    let times = |figure: &&Figure| figure.times().unwrap_or(0.0);
    for (_, losses) in &mut questions {
        losses.sort_by(|one, other| times(one).total_cmp(&times(other)));
    }
    questions.sort_by(|(_, one), (_, other)| times(&one[0]).total_cmp(&times(&other[0])));
    let header = ["what", "ours", "theirs", "unit", "ours / theirs", "to whom", "and to"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for (asked, losses) in &questions {
        let (worst, others) = losses.split_first().expect("there is one");
        let number = |values: [Option<f64>; 3]| values[1].map_or("".to_owned(), rounded);
        let others: Vec<_> = others
            .iter()
            .map(|figure| format!("{} {}", rounded(times(figure)), named(figure)))
            .collect();
        rows.push(vec![
            asked.clone(),
            number(worst.ours),
            number(worst.theirs),
            worst.unit.clone(),
            interval(worst),
            named(worst),
            others.join("; "),
        ]);
    }
    markdown(&rows)
}

/// A contestant, and what has to be known of it.
fn named(figure: &Figure) -> String {
    let limit = if figure.kind == Kind::Unbounded { " (no limit)" } else { "" };
    let note = if figure.note.is_empty() { "" } else { ", which " };
    format!("{}{limit}{note}{}", figure.contestant, figure.note)
}

fn ties(figures: &[&Figure]) -> String {
    let ties = of_verdict(figures, Verdict::Tie);
    if ties.is_empty() {
        return "Nowhere, in this run.\n".to_owned();
    }
    let header = ["what", "with whom", "ours / theirs"].map(String::from);
    let mut rows = vec![header.to_vec()];
    rows.extend(
        ties.into_iter()
            .map(|figure| vec![figure.asked(), figure.contestant.clone(), interval(figure)]),
    );
    markdown(&rows)
}

fn of_verdict<'a>(figures: &[&'a Figure], verdict: Verdict) -> Vec<&'a Figure> {
    let contestants = figures.iter().copied().filter(|figure| figure.kind != Kind::Limit);
    contestants.filter(|figure| figure.verdict == verdict).collect()
}

fn interval(figure: &Figure) -> String {
    let [low, median, high] = figure.ratio.map(|ratio| ratio.map_or("?".to_owned(), rounded));
    format!("{median} ({low}..{high})")
}

fn section(outcome: &Outcome, plots: &[Plot], same: Same) -> String {
    let Outcome { name, run, results } = outcome;
    let mut text = format!(
        "\n## {name}\n\n{}\n`cargo bench -p benches --bench {name}`, {} minutes",
        results.about,
        minutes(run.took),
    );
    if !same.commit {
        text += &format!(", of {}", named_commit(run.commit.as_ref()));
    }
    if !same.machine && !results.machine.is_empty() {
        text += &format!(", on {}", results.machine);
    }
    text += ".\n\n";
    if let Some(failure) = &run.failure {
        text += &format!("**It did not end well:** {}\n\n", failure.replace('\n', " "));
    }
    for plot in plots.iter().filter(|plot| plot.bench == Some(*name)) {
        text += &image(plot);
    }
    for part in &results.parts {
        text += &match part {
            Part::Table(rows) => markdown(rows) + "\n",
            Part::Note(note) => format!("{note}\n\n"),
            Part::NotRun(what, why) => format!("*Not run:* {what}: {why}.\n\n"),
        };
    }
    text
}

fn image(plot: &Plot) -> String {
    format!("\n![{}](plots/{})\n\n", plot.title.replace(['[', ']'], ""), plot.file)
}

/// A table; numbers to the right, but for the first column.
fn markdown(rows: &[Vec<String>]) -> String {
    let Some((header, rows)) = rows.split_first() else { return String::new() };
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = header.iter().enumerate().map(|(idx, _)| if idx == 0 { "---" } else { "---:" });
    let rule: Vec<_> = rule.map(String::from).collect();
    let mut text = line(header) + &line(&rule);
    for row in rows {
        let mut row = row.clone();
        row.resize(header.len(), String::new());
        text += &line(&row);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::results::Results;
    use super::super::results::tests::figure;
    use super::super::run::Run;
    use super::super::run::tests::commit;
    use super::*;

    fn page() -> String {
        of("cargo xtask bench", &[hit()], &[])
    }

    fn hit() -> Outcome {
        let mut tie = figure("miss", "foyer", 1.01);
        tie.verdict = Verdict::Tie;
        let results = Results {
            about: "ABOUT".to_owned(),
            machine: "MACHINE".to_owned(),
            parts: vec![
                Part::Table(vec![vec!["a".to_owned(), "b".to_owned()], vec!["Mutex|x".to_owned()]]),
                Part::NotRun("papaya".to_owned(), "it would grow".to_owned()),
            ],
            figures: vec![figure("hit", "moka", 0.9), figure("hit", "scc HashCache", 0.3), tie],
        };
        let (commit, failure) =
            (Some(commit("abc of 2026", false)), Some("it panicked".to_owned()));
        let run = Run { took: Duration::from_secs(61), commit, failure };
        Outcome { name: "hit", run, results }
    }

    #[test]
    fn a_bench_that_has_not_run_is_of_no_other_commit() {
        let unknown = Outcome { run: Run::default(), ..hit() };
        let page = of("cargo xtask bench", &[unknown, hit()], &[]);
        assert!(page.contains("of commit abc of 2026.") && !page.contains("different"), "{page}");
    }

    #[test]
    fn benches_of_different_commits_say_so_each() {
        let mut other = hit();
        other.run.commit = Some(commit("def of 2027", true));
        let unknown = Outcome { run: Run::default(), ..hit() };
        let page = of("cargo xtask bench", &[hit(), other, unknown], &[]);
        for text in [
            "on MACHINE, of different commits: they are named with the benches.",
            "minutes, of commit abc of 2026.",
            "minutes, of commit def of 2027 with changes that were not committed.",
            "minutes, of an unknown commit.",
        ] {
            assert!(page.contains(text), "no {text} in {page}");
        }
    }

    #[test]
    fn benches_of_different_machines_say_so_each() {
        let mut other = hit();
        other.results.machine = "OTHER".to_owned();
        let page = of("cargo xtask bench", &[hit(), other], &[]);
        for text in [
            "on different machines, of commit abc of 2026: they are named with the benches.",
            "minutes, on MACHINE.",
            "minutes, on OTHER.",
        ] {
            assert!(page.contains(text), "no {text} in {page}");
        }
    }

    #[test]
    fn losses_come_first_and_the_worst_of_them_first() {
        let page = page();
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text} in {page}"));
        assert!(place("## Where we lose") < place("0.30 (0.30..0.30) | scc HashCache"));
        assert!(page.contains("scc HashCache | 0.90 moka |\n"), "{page}");
        assert!(place("0.90 moka") < place("## Where it is a tie"));
        assert!(place("## Where it is a tie") < place("foyer"));
        assert!(place("foyer") < place("## The goals"));
        assert!(place("## The goals") < place("## hit"));
    }

    #[test]
    fn the_machine_the_command_and_what_failed_are_named() {
        let page = page();
        for text in ["MACHINE", "`cargo xtask bench`", "of commit abc of 2026.", "1:01", "ABOUT"] {
            assert!(page.contains(text), "no {text} in {page}");
        }
        assert!(page.contains("*Not run:* papaya: it would grow.") && page.contains("it panicked"));
        assert!(page.contains("| Mutex\\|x |  |"), "{page}");
    }
}
