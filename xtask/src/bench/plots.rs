//! Which plots there are, and what is on them.

use super::Outcome;
use super::plot::{Bar, Chart, Colour, Group, Scale};
use super::results::{Better, Figure, Kind, grouped, rounded};

/// A plot, under the name of its file.
pub(super) struct Plot {
    pub(super) file: String,
    pub(super) title: String,
    /// The bench that it belongs to; none of the overview.
    pub(super) bench: Option<&'static str>,
    pub(super) svg: String,
}

/// Who stands on the overview: what a reader would take instead.
const INSTEAD: [(&str, Colour); 4] = [
    ("moka", Colour::Theirs),
    ("scc HashCache", Colour::FloorLight),
    ("rustls default", Colour::TheirsLight),
    ("mutex, O(1) take", Colour::Floor),
];

/// The questions of the overview, and how they are called there.
const OVERVIEW: [(&str, &str); 8] = [
    ("tls13", "TLS 1.3: put, put, take"),
    ("tls12", "TLS 1.2: 9 gets, 1 put"),
    ("hit", "hit"),
    ("miss", "miss"),
    ("rustls handshakes", "rustls handshakes"),
    ("oversubscribed put, p99.99", "put, 32 threads, p99.99"),
    ("memory beyond the payload", "memory beside the payload"),
    ("found, multi-use, flooded", "found in a flood"),
];

/// The benches whose contestants are compared at each size; the others show all sizes at once.
const BY_SIZE: [&str; 8] =
    ["tls13", "tls12", "hit", "miss", "flood", "hot_session", "oversubscription", "memory"];

pub(super) fn all(outcomes: &[Outcome]) -> Vec<Plot> {
    let mut plots: Vec<_> = overview(outcomes).into_iter().collect();
    for outcome in outcomes {
        let by_size = BY_SIZE.contains(&outcome.name);
        let figures = outcome.results.figures.iter().filter(|figure| is_worth_a_plot(figure));
        for same in sets(figures, |figure| {
            (figure.question.clone(), figure.unit.clone(), by_size.then_some(figure.sessions))
        }) {
            let chart = if by_size { contestants(&same) } else { sizes(&same) };
            let size = if by_size { format!("-{}", same[0].sessions) } else { String::new() };
            let asked = format!("{} {}", same[0].question, same[0].unit);
            plots.push(Plot {
                file: format!("{}{size}.svg", file_name(&asked)),
                title: chart.title.clone(),
                bench: Some(outcome.name),
                svg: chart.draw(),
            });
        }
    }
    plots
}

/// Of the oversubscribed calls the worst are shown; the tables have the others, and all that was found.
fn is_worth_a_plot(figure: &Figure) -> bool {
    if figure.question.ends_with(", found") {
        return false;
    }
    let is_worst = ["p99.99", "longest"].iter().any(|end| figure.question.ends_with(end));
    is_worst || !figure.question.starts_with("oversubscribed")
}

/// The figures that have the same key, in the order in which the keys come.
fn sets<'a, K: PartialEq>(
    figures: impl Iterator<Item = &'a Figure>,
    key: impl Fn(&Figure) -> K,
) -> Vec<Vec<&'a Figure>> {
    let mut sets: Vec<(K, Vec<&Figure>)> = Vec::new();
    for figure in figures {
        let key = key(figure);
        match sets.iter_mut().find(|(seen, _)| *seen == key) {
            Some((_, set)) => set.push(figure),
            None => sets.push((key, vec![figure])),
        }
    }
    sets.into_iter().map(|(_, set)| set).collect()
}

/// How many times as good ours is as what a reader would take instead.
fn overview(outcomes: &[Outcome]) -> Option<Plot> {
    let all: Vec<&Figure> = outcomes.iter().flat_map(|one| &one.results.figures).collect();
    let mut groups = Vec::new();
    for (question, label) in OVERVIEW {
        let of = |figure: &&&Figure| figure.question == question;
        let sizes = all.iter().filter(of).map(|figure| figure.sessions);
        // The size that the goals are set for, or the one that is nearest to it.
        let Some(size) = sizes.min_by_key(|size| size.abs_diff(1_000_000)) else { continue };
        let bar = |(name, colour): &(&str, Colour)| {
            let these = all.iter().filter(of).filter(|figure| figure.sessions == size);
            let ratios =
                these.filter(|figure| is_named(figure, name)).filter_map(|one| one.times());
            let ratio = ratios.min_by(f64::total_cmp)?;
            Some(Bar { value: ratio, note: format!("×{}", rounded(ratio)), colour: *colour })
        };
        let bars: Vec<_> = INSTEAD.iter().filter_map(bar).collect();
        if !bars.is_empty() {
            groups.push(Group { label: label.to_owned(), bars });
        }
    }
    let chart = Chart {
        title: "How many times as good as what you would take instead".to_owned(),
        subtitle: "right of the line resumption is ahead; 1 000 000 sessions, or the nearest size \
                   that was run; at the number of threads that is the worst for us"
            .to_owned(),
        groups,
        scale: Scale::Ratio,
        legend: INSTEAD.map(|(name, colour)| (colour, name.to_owned())).into(),
    };
    (!chart.groups.is_empty()).then(|| Plot {
        file: "overview.svg".to_owned(),
        title: chart.title.clone(),
        bench: None,
        svg: chart.draw(),
    })
}

/// Whether a figure is this contestant's, under whatever name.
fn is_named(figure: &Figure, name: &str) -> bool {
    figure.contestant == name || figure.contestant.ends_with(&format!("({name})"))
}

/// Contestants under each other, ours first, a bar for each number of threads.
fn contestants(figures: &[&Figure]) -> Chart {
    let first = figures[0];
    let mut threads: Vec<u64> = figures.iter().map(|figure| figure.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let of_ours = figures.iter().filter(|figure| figure.contestant == first.contestant);
    let ours = of_ours.filter_map(|figure| bar_of_ours(figure, shade(&threads, figure)));
    let mut groups = vec![Group { label: "resumption".to_owned(), bars: ours.collect() }];
    let mut names: Vec<&str> = Vec::new();
    for figure in figures {
        if !names.contains(&figure.contestant.as_str()) {
            names.push(&figure.contestant);
        }
    }
    for name in names {
        let theirs = figures.iter().filter(|figure| figure.contestant == name);
        let bars = theirs.filter_map(|figure| bar_of_theirs(figure, shade(&threads, figure)));
        groups.push(Group { label: name.to_owned(), bars: bars.collect() });
    }
    let plural = |threads: &u64| match threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    let legend = match &threads[..] {
        [_] => Vec::new(),
        [one, .., most] => {
            vec![(Colour::OursLight, plural(one)), (Colour::Ours, plural(most))]
        }
        [] => Vec::new(),
    };
    Chart {
        title: format!("{}, {} sessions", first.question, grouped(first.sessions)),
        subtitle: format!("{}; grey: without a limit on sessions", unit(first)),
        scale: scale(&groups),
        groups,
        legend,
    }
}

/// Whether a bar is one of the highest number of threads, which is dark.
fn shade(threads: &[u64], figure: &Figure) -> bool {
    threads.last() == Some(&figure.threads)
}

/// Sizes under each other, a bar for each contestant.
fn sizes(figures: &[&Figure]) -> Chart {
    let first = figures[0];
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = Vec::new();
    for figure in figures {
        if !seen.contains(&figure.sessions) {
            seen.push(figure.sessions);
            let mut bars = Vec::new();
            if let Some(mut ours) = bar_of_ours(figure, true) {
                ours.note = format!("resumption {}", ours.note);
                bars.push(ours);
            }
            groups.push(Group { label: grouped(figure.sessions), bars });
        }
        let place = seen.iter().position(|size| *size == figure.sessions);
        let group = &mut groups[place.expect("it was pushed")];
        if let Some(mut theirs) = bar_of_theirs(figure, true) {
            theirs.note = format!("{} {}", figure.contestant, theirs.note);
            group.bars.push(theirs);
        }
    }
    Chart {
        title: first.question.clone(),
        subtitle: format!("{}, by the number of sessions", unit(first)),
        scale: scale(&groups),
        groups,
        legend: Vec::new(),
    }
}

/// The unit of a figure, and whether it is good to have few of it.
fn unit(figure: &Figure) -> String {
    match figure.better {
        Better::More => figure.unit.clone(),
        Better::Less => format!("{}, less is better", figure.unit),
    }
}

fn bar_of_ours(figure: &Figure, is_dark: bool) -> Option<Bar> {
    let value = figure.ours[1]?;
    let colour = if is_dark { Colour::Ours } else { Colour::OursLight };
    Some(Bar { value, note: rounded(value), colour })
}

fn bar_of_theirs(figure: &Figure, is_dark: bool) -> Option<Bar> {
    let value = figure.theirs[1]?;
    let note = match figure.times() {
        Some(times) => format!("{}  (ours ×{})", rounded(value), rounded(times)),
        None => rounded(value),
    };
    let colour = match (figure.kind, is_dark) {
        (Kind::Bounded, true) => Colour::Theirs,
        (Kind::Bounded, false) => Colour::TheirsLight,
        (_, true) => Colour::Floor,
        (_, false) => Colour::FloorLight,
    };
    Some(Bar { value, note, colour })
}

/// Lengths of bars, unless most of them could not be seen.
fn scale(groups: &[Group]) -> Scale {
    let values = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value);
    let mut values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).copied().unwrap_or(1.0);
    if values.last().is_some_and(|most| most / middle > 30.0) { Scale::Log } else { Scale::Linear }
}

/// A name that needs no quotes.
fn file_name(text: &str) -> String {
    let letters = text.to_lowercase().replace('%', "percent").replace('/', " per ");
    let letters = letters.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' });
    letters.collect::<String>().split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::results::Results;
    use super::super::results::tests::figure;
    use super::super::run::Run;
    use super::*;

    fn outcome(name: &'static str, figures: Vec<Figure>) -> Outcome {
        let results = Results { figures, ..Results::default() };
        Outcome { name, run: Run::default(), results }
    }

    #[test]
    fn a_plot_has_every_contestant_and_every_ratio() {
        let figures = vec![figure("tls13", "moka", 3.2), figure("tls13", "papaya", 0.5)];
        let plots = all(&[outcome("tls13", figures)]);
        let files: Vec<_> = plots.iter().map(|plot| plot.file.as_str()).collect();
        assert_eq!(files, ["overview.svg", "tls13-million-calls-per-s-1000000.svg"]);
        assert!(plots[0].svg.contains("×3.20"), "{}", plots[0].svg);
        for word in ["resumption", "moka", "papaya", "ours ×3.20", "ours ×0.50"] {
            assert!(plots[1].svg.contains(word), "{word}: {}", plots[1].svg);
        }
    }

    #[test]
    fn the_overview_shows_the_worse_number_of_threads() {
        let mut one = figure("hit", "scc HashCache", 0.8);
        one.threads = 1;
        let plots = all(&[outcome("hit", vec![figure("hit", "scc HashCache", 1.4), one])]);
        let overview = &plots[0].svg;
        assert!(overview.contains("×0.80") && !overview.contains("×1.40"), "{overview}");
    }

    #[test]
    fn it_is_said_where_less_is_better() {
        let more = figure("hit", "moka", 1.5);
        let less = Figure { better: Better::Less, question: "memory".into(), ..more.clone() };
        let plots = all(&[outcome("hit", vec![more, less])]);
        let says = plots.iter().map(|plot| plot.svg.contains("less is better"));
        assert_eq!(says.collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn sizes_of_one_question_share_a_plot() {
        let mut small = figure("rustls handshakes", "rustls default", 1.0);
        small.sessions = 1_000;
        let large = figure("rustls handshakes", "rustls default", 40.0);
        let plots = all(&[outcome("rustls_store", vec![small, large])]);
        assert_eq!(plots.len(), 2);
        assert!(plots[1].svg.contains(">1 000<") && plots[1].svg.contains(">1 000 000<"));
    }

    #[test]
    fn files_have_names_without_signs() {
        assert_eq!(file_name("oversubscribed put, p99.99"), "oversubscribed-put-p99-99");
    }

    /// One question in two units, in two sizes, in benches of both kinds: nobody overwrites another's file.
    #[test]
    fn no_two_plots_have_one_file() {
        let mut figures = Vec::new();
        for unit in ["handshakes/s", "server us/handshake", "% of server CPU"] {
            for sessions in [1_000, 20_000] {
                let mut one = figure("OpenSSL handshakes, TLS 1.2", "OpenSSL SSL_CTX", 1.5);
                (one.unit, one.sessions) = (unit.to_owned(), sessions);
                figures.push(one);
            }
        }
        let by_size =
            figures.iter().map(|figure| Figure { question: "hit".into(), ..figure.clone() });
        let outcomes = [outcome("hit", by_size.collect()), outcome("openssl_handshakes", figures)];
        let plots = all(&outcomes);
        let files: BTreeSet<&str> = plots.iter().map(|plot| plot.file.as_str()).collect();
        assert_eq!((plots.len(), files.len()), (6 + 3, 6 + 3));
    }
}
