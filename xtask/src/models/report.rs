//! What the models have found, in tables; and whether anything is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Result, bail, ensure};

/// The protocols, which are the files of `loom-tests/tests`, and how many planted bugs each has to catch at
/// least: four, where there are so many mistakes to make.
const PROTOCOLS: [(&str, usize); 17] = [
    ("table", 4),
    ("replace", 4),
    ("grow", 4),
    ("filter", 4),
    ("refs", 4),
    ("hints", 4),
    ("wheel", 4),
    ("due", 4),
    ("capacity", 4),
    ("scope", 4),
    ("events", 4),
    ("unlinked", 4),
    ("slots", 4),
    ("flights", 4),
    ("gate", 4),
    ("shelf", 2),
    ("parcel", 1),
];

/// Planted bugs of what stands for the epoch and for arc-swap in models. That they are caught shows that the doubles
/// are strict, and nothing of the protocol in whose models they are planted.
pub(super) const OF_DOUBLES: [&str; 2] = ["freed-at-once", "load-before-count"];

/// So many scenarios at most may have no bug that makes them fail.
const MOST_UNTRIED: usize = 15;

/// What a run of the models has told.
#[derive(Debug, Default)]
pub(crate) struct Report {
    scenarios: BTreeMap<Name, Scenario>,
    bugs: BTreeSet<Bug>,
    equivalents: BTreeSet<Equivalent>,
}

/// A protocol and a scenario.
type Name = (String, String);

/// What was explored of a scenario: in memory and in interleaving mode.
#[derive(Debug, Default)]
struct Scenario {
    explored: [Option<Explored>; 2],
    deepest: [Option<String>; 2],
}

#[derive(Debug)]
struct Explored {
    bound: String,
    count: u64,
    floor: u64,
}

/// A planted bug, and what has caught it: after how many executions, in which mode.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bug {
    name: Name,
    bug: String,
    assertion: String,
    executions: [Option<u64>; 2],
}

/// Weaker code that no model can tell from the right one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Equivalent {
    weaker: String,
    name: Name,
    reason: String,
}

impl Report {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut this = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            this.add(&fields).map_err(|error| error.context(format!("the line {line:?}")))?;
        }
        Ok(this)
    }

    fn add(&mut self, fields: &[&str]) -> Result<()> {
        let [kind, protocol, scenario, rest @ ..] = fields else { bail!("too few fields") };
        let name = (String::from(*protocol), String::from(*scenario));
        match (*kind, rest) {
            ("explored", [mode, bound, count, floor]) => {
                let (bound, count, floor) = (String::from(*bound), count.parse()?, floor.parse()?);
                let explored = Explored { bound, count, floor };
                self.scenarios.entry(name).or_default().explored[index(mode)?] = Some(explored);
            }
            ("deeper", [mode, bound, count]) => {
                let deepest = format!("{bound}: {count} executions");
                self.scenarios.entry(name).or_default().deepest[index(mode)?] = Some(deepest);
            }
            ("exhausted", [mode, bound]) => {
                let deepest = format!("{bound}: more of them add no execution");
                self.scenarios.entry(name).or_default().deepest[index(mode)?] = Some(deepest);
            }
            ("unfinished" | "running", [mode, _, _]) => drop(index(mode)?),
            ("caught", [bug, assertion, memory, interleaving]) => {
                let (bug, assertion) = (String::from(*bug), String::from(*assertion));
                let executions = [executions(memory)?, executions(interleaving)?];
                self.bugs.insert(Bug { name, bug, assertion, executions });
            }
            ("equivalent", [weaker, reason]) => {
                let (weaker, reason) = (String::from(*weaker), String::from(*reason));
                self.equivalents.insert(Equivalent { weaker, name, reason });
            }
            _ => bail!("no such kind of line"),
        }
        Ok(())
    }

    /// Fails if something is missing: a scenario of the tests' `sources`, a mode, a floor, a bug of those
    /// that are `planted`, or bugs of a protocol.
    pub(crate) fn check(
        &self,
        planted: &BTreeSet<String>,
        sources: &[(String, String)],
    ) -> Result<()> {
        for (protocol, text) in sources {
            let asked = text.matches(".explore();").count();
            let explored = self.scenarios.keys().filter(|name| name.0 == *protocol).count();
            ensure!(explored == asked, "{protocol}: {explored} scenarios of {asked} were explored");
        }
        for ((protocol, name), scenario) in &self.scenarios {
            for explored in &scenario.explored {
                let Some(Explored { count, floor, .. }) = explored else {
                    bail!("{protocol}: {name}: explored in one mode only");
                };
                ensure!(count >= floor, "{protocol}: {name}: {count} executions of {floor}");
            }
        }
        for Bug { name, bug, executions, .. } in &self.bugs {
            ensure!(executions.iter().any(Option::is_some), "`{bug}` has survived");
            ensure!(self.scenarios.contains_key(name), "`{bug}`: the scenario without it: not run");
        }
        let caught = self.bugs.iter().map(|bug| &bug.bug);
        let known: BTreeSet<&String> =
            caught.chain(self.equivalents.iter().map(|equivalent| &equivalent.weaker)).collect();
        let unknown: Vec<_> = planted.iter().filter(|bug| !known.contains(bug)).collect();
        ensure!(unknown.is_empty(), "planted, and caught by no scenario: {unknown:?}");
        for (protocol, fewest) in PROTOCOLS {
            let bugs =
                self.bugs.iter().filter(|bug| bug.name.0 == protocol && !bug.is_of_a_double());
            let count = bugs.map(|bug| &bug.bug).collect::<BTreeSet<_>>().len();
            ensure!(count >= fewest, "{protocol}: {count} planted bugs, {fewest} asked");
        }
        let untried = self.untried().len();
        ensure!(untried <= MOST_UNTRIED, "{untried} scenarios are tried with no planted bug");
        Ok(())
    }

    /// Scenarios of protocols that no planted bug is known to fail.
    fn untried(&self) -> Vec<&Name> {
        let tried: BTreeSet<&Name> = self.bugs.iter().map(|bug| &bug.name).collect();
        let is_protocol = |name: &Name| PROTOCOLS.iter().any(|(protocol, _)| name.0 == *protocol);
        let scenarios = self.scenarios.keys().filter(|name| is_protocol(name));
        scenarios.filter(|name| !tried.contains(name)).collect()
    }

    /// The scenarios: what was explored.
    pub(crate) fn scenarios(&self) -> String {
        let head =
            ["protocol", "scenario", "memory mode", "(floor)", "interleaving mode", "(floor)"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for ((protocol, name), Scenario { explored, .. }) in &self.scenarios {
            let mut row = vec![protocol.clone(), name.clone()];
            for Explored { bound, count, floor } in explored.iter().flatten() {
                row.extend([format!("{count}, {bound}"), format!("({floor})")]);
            }
            rows.push(row);
        }
        let counts =
            self.scenarios.values().flat_map(|scenario| scenario.explored.iter().flatten());
        let total: u64 = counts.map(|explored| explored.count).sum();
        let mut text = table(&rows);
        let _ = writeln!(text, "{} scenarios, {total} executions", self.scenarios.len());
        let untried = self.untried();
        let _ = writeln!(text, "{} of them were explored and never failed:", untried.len());
        for (protocol, name) in untried {
            let _ = writeln!(text, "    {protocol}: {name}");
        }
        text
    }

    /// The scenarios: the largest bounds that were explored as a whole.
    pub(crate) fn depths(&self) -> String {
        let head = ["protocol", "scenario", "memory mode", "interleaving mode"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for ((protocol, name), Scenario { explored, deepest }) in &self.scenarios {
            let mut row = vec![protocol.clone(), name.clone()];
            for (explored, deepest) in explored.iter().zip(deepest) {
                let explored = explored.as_ref().map_or_else(String::new, |explored| {
                    format!("{}: {} executions", explored.bound, explored.count)
                });
                row.push(deepest.clone().unwrap_or(explored));
            }
            rows.push(row);
        }
        table(&rows)
    }

    /// The planted bugs: who has caught them, and how.
    pub(crate) fn bugs(&self) -> String {
        let head = ["bug", "protocol", "scenario", "assertion", "memory", "interleaving"];
        let mut rows = vec![head.map(String::from).to_vec()];
        let (of_doubles, bugs): (Vec<&Bug>, Vec<&Bug>) =
            self.bugs.iter().partition(|bug| bug.is_of_a_double());
        rows.extend(bugs.iter().map(|bug| bug.row()));
        let names: BTreeSet<&String> = bugs.iter().map(|bug| &bug.bug).collect();
        let mut text = table(&rows);
        text += "The last two columns: the number of the execution that the bug was caught in, in memory ";
        text += "and in interleaving mode; - if it passes there.\n";
        let _ = writeln!(text, "{} planted bugs, caught {} times", names.len(), bugs.len());
        text +=
            "Not among them, for they are bugs of what stands for the epoch and for arc-swap:\n";
        text += &table(&of_doubles.iter().map(|bug| bug.row()).collect::<Vec<_>>());
        for Equivalent { weaker, name, reason } in &self.equivalents {
            let _ = writeln!(text, "no bug: `{weaker}` in \"{}\": {reason}", name.1);
        }
        text
    }
}

impl Bug {
    fn is_of_a_double(&self) -> bool {
        OF_DOUBLES.contains(&self.bug.as_str())
    }

    fn row(&self) -> Vec<String> {
        let shown = |count: Option<u64>| count.map_or_else(|| String::from("-"), |n| n.to_string());
        let (protocol, scenario) = self.name.clone();
        let [memory, interleaving] = self.executions.map(shown);
        vec![self.bug.clone(), protocol, scenario, self.assertion.clone(), memory, interleaving]
    }
}

/// The index of a mode.
fn index(mode: &str) -> Result<usize> {
    match mode {
        "memory" => Ok(0),
        "interleaving" => Ok(1),
        _ => bail!("no mode {mode:?}"),
    }
}

fn executions(field: &str) -> Result<Option<u64>> {
    Ok(if field == "-" { None } else { Some(field.parse()?) })
}

/// Columns as wide as they have to be; the last one as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report without a fault, and the sources that it is of.
    fn complete() -> (Vec<String>, Vec<(String, String)>) {
        let mut lines = Vec::new();
        for (protocol, fewest) in PROTOCOLS {
            for mode in ["memory", "interleaving"] {
                lines.push(format!("explored\t{protocol}\ta ∥ b\t{mode}\t2 preemptions\t200\t100"));
            }
            for bug in 1..=fewest {
                lines.push(format!("caught\t{protocol}\ta ∥ b\tbug-{bug}\tone wins\t7\t-"));
            }
        }
        let source =
            |(protocol, _): (&str, usize)| (String::from(protocol), String::from("S.explore();"));
        (lines, PROTOCOLS.map(source).to_vec())
    }

    fn check(lines: &[String], sources: &[(String, String)]) -> Result<()> {
        let planted = ["bug-1", "bug-2"].map(String::from).into();
        Report::parse(&lines.join("\n"))?.check(&planted, sources)
    }

    /// `harness.rs` tests the harness, and no protocol.
    #[test]
    fn every_file_of_models_is_a_protocol_that_has_to_catch_bugs() {
        let files = crate::models::protocols().unwrap().into_iter().map(|(name, _)| name);
        let files: Vec<String> = files.filter(|name| name != "harness").collect();
        let mut listed: Vec<_> = PROTOCOLS.map(|(protocol, _)| protocol).into();
        listed.sort_unstable();
        assert_eq!(files, listed);
        assert!(PROTOCOLS.iter().all(|(_, fewest)| *fewest > 0));
    }

    #[test]
    fn a_complete_report_passes() {
        let (lines, sources) = complete();
        check(&lines, &sources).unwrap();
    }

    #[test]
    fn whatever_is_missing_is_a_failure() {
        let (lines, sources) = complete();
        for missing in 0..lines.len() {
            let mut rest = lines.clone();
            rest.remove(missing);
            assert!(check(&rest, &sources).is_err(), "without {:?}", lines[missing]);
        }
        let mut more = sources.clone();
        more[0].1 += "T.explore();";
        let error = check(&lines, &more).unwrap_err();
        assert_eq!(error.to_string(), "table: 1 scenarios of 2 were explored");
    }

    #[test]
    fn a_survivor_and_a_count_below_its_floor_are_failures() {
        let (lines, sources) = complete();
        let fails = |from: &str, to: &str, why: &str| {
            let changed: Vec<_> = lines.iter().map(|line| line.replacen(from, to, 1)).collect();
            let error = check(&changed, &sources).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        fails("bug-1\tone wins\t7", "bug-1\tone wins\t-", "`bug-1` has survived");
        fails("bug-1\t", "bug-5\t", "caught by no scenario: [\"bug-1\"]");
        fails("\t200\t", "\t99\t", "99 executions of 100");
        fails("a ∥ b\tbug", "b ∥ c\tbug", "the scenario without it");
        let mut lines = lines.clone();
        lines.push(String::from("caught\ttable"));
        assert!(check(&lines, &sources).is_err());
    }

    #[test]
    fn weaker_code_that_is_no_bug_is_listed_with_its_reason() {
        let (mut lines, sources) = complete();
        lines.retain(|line| !line.contains("bug-1") || line.contains("bug-1x"));
        for (protocol, _) in PROTOCOLS {
            lines.push(format!("caught\t{protocol}\ta ∥ b\tbug-5\tone wins\t7\t9"));
        }
        assert!(check(&lines, &sources).is_err());
        lines.push(String::from("equivalent\ttable\ta ∥ b\tbug-1\tit writes nothing"));
        check(&lines, &sources).unwrap();
        let text = Report::parse(&lines.join("\n")).unwrap().bugs();
        assert!(text.contains("no bug: `bug-1` in \"a ∥ b\": it writes nothing"), "{text}");
        assert!(text.contains("\nbug-5  table     a ∥ b     one wins   7       9\n"), "{text}");
        let all: usize = PROTOCOLS.iter().map(|(_, fewest)| fewest).sum();
        let count = format!("4 planted bugs, caught {all} times");
        assert!(text.contains(&count), "{text}");
    }

    #[test]
    fn bugs_of_the_doubles_count_for_no_protocol() {
        let (lines, sources) = complete();
        let own = "refs\ta ∥ b\tbug-3\t";
        let of_a_double = own.replace("bug-3", OF_DOUBLES[0]);
        let lines: Vec<_> = lines.iter().map(|line| line.replace(own, &of_a_double)).collect();
        let error = check(&lines, &sources).unwrap_err();
        assert_eq!(error.to_string(), "refs: 3 planted bugs, 4 asked");
        let text = Report::parse(&lines.join("\n")).unwrap().bugs();
        let (_, apart) = text.split_once("Not among them").unwrap();
        assert!(apart.contains(OF_DOUBLES[0]) && !apart.contains("bug-3"), "{text}");
    }

    #[test]
    fn scenarios_that_no_bug_fails_are_told_and_are_few() {
        let (mut lines, mut sources) = complete();
        for nth in 0..=MOST_UNTRIED {
            check(&lines, &sources).unwrap();
            for mode in ["memory", "interleaving"] {
                lines.push(format!("explored\ttable\tc ∥ {nth}\t{mode}\t2 preemptions\t200\t100"));
            }
            sources[0].1 += "S.explore();";
        }
        let error = check(&lines, &sources).unwrap_err().to_string();
        assert!(error.contains("are tried with no planted bug"), "{error}");
        let text = Report::parse(&lines.join("\n")).unwrap().scenarios();
        assert!(text.contains("never failed:\n    table: c ∥ 0\n"), "{text}");
    }

    #[test]
    fn depths_are_those_of_what_was_finished() {
        let lines = "explored\tt\ts\tmemory\t2 preemptions\t200\t100\n\
                     deeper\tt\ts\tmemory\t3 preemptions\t900\n\
                     running\tt\ts\tmemory\t4 preemptions\t50\n\
                     unfinished\tt\ts\tmemory\t4 preemptions\t7000\n\
                     explored\tt\ts\tinterleaving\t2 preemptions\t150\t100\n\
                     exhausted\tt\ts\tinterleaving\t2 preemptions\n";
        let text = Report::parse(lines).unwrap().depths();
        let row = text.lines().nth(1).unwrap();
        let expected =
            "3 preemptions: 900 executions  2 preemptions: more of them add no execution";
        assert!(row.ends_with(expected), "{text}");
    }
}
