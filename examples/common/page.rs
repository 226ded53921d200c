//! The page for people: was this connection resumed, how long did it take, what does the cache do.
//! One file of HTML without scripts or anything to fetch; nothing in it comes from a client.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use resumption::Stats;

use crate::{
    format::{grouped, percent, short},
    site::{Counters, Visit},
};

/// What a browser may do with the page: show it.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

pub(crate) fn html(visit: &Visit, stats: &Stats, counters: &Counters) -> String {
    let mut page = String::with_capacity(8_192);
    page.push_str(HEAD);
    page.push_str(STYLE);
    page.push_str("</style>\n</head>\n<body>\n<main>\n");
    verdict(&mut page, visit);
    page.push_str("<div class=\"cards\">\n");
    table(&mut page, "This connection", &connection(visit));
    table(&mut page, "Since the server started", &handshakes(counters));
    table(&mut page, "The session cache", &cache(stats));
    table(&mut page, "Lookups of what was not in the cache", &misses(stats));
    table(&mut page, "Why sessions left the cache", &removals(stats));
    page.push_str(FOOT);
    page
}

type Row = (&'static str, String);

fn verdict(page: &mut String, visit: &Visit) {
    let (class, title, text) = if visit.handshake.resumed {
        (
            "resumed",
            "Resumed",
            "Your browser and this server went on with an earlier session: \
             no certificate was sent, and nothing was signed.",
        )
    } else {
        (
            "full",
            "Full handshake",
            "This connection began a new session, with certificate and signature. \
             Reload the page: the next connection resumes it.",
        )
    };
    let took = short(visit.took);
    let _ = writeln!(
        page,
        "<header class=\"{class}\"><p class=\"time\">{took}</p><h1>{title}</h1><p>{text}</p></header>"
    );
}

fn table(page: &mut String, title: &str, rows: &[Row]) {
    let _ = writeln!(page, "<section><h2>{title}</h2><table>");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    page.push_str("</table></section>\n");
}

fn connection(visit: &Visit) -> [Row; 3] {
    [
        ("Handshake took", short(visit.took)),
        ("Protocol", visit.handshake.protocol.clone()),
        ("Cipher suite", visit.handshake.suite.clone()),
    ]
}

fn handshakes(counters: &Counters) -> [Row; 4] {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let (full, resumed) = (read(&counters.full), read(&counters.resumed));
    let share = percent(resumed, full + resumed, 0);
    [
        ("Connections", grouped(read(&counters.connections))),
        ("Full handshakes", grouped(full)),
        ("Resumed handshakes", format!("{} ({share})", grouped(resumed))),
        ("Failed handshakes", grouped(read(&counters.failed))),
    ]
}

fn cache(stats: &Stats) -> [Row; 7] {
    let limit = stats.max_sessions.map_or("no limit".to_owned(), grouped);
    let age = stats.mean_age_at_eviction.map_or("–".to_owned(), short);
    [
        ("Sessions kept", format!("{} of {limit}", grouped(stats.sessions))),
        ("Bytes of these", grouped(stats.bytes)),
        ("Stored", grouped(stats.puts)),
        ("Refused", grouped(stats.refused)),
        ("Taken, once each (TLS 1.3)", grouped(stats.takes)),
        ("Found by id (TLS 1.2)", grouped(stats.hits)),
        ("Mean age at eviction", age),
    ]
}

fn misses(stats: &Stats) -> [Row; 5] {
    [
        ("Unknown", grouped(stats.misses_unknown)),
        ("… of these taken before, approx.", grouped(stats.approx_misses_taken_before)),
        ("… of these evicted before, approx.", grouped(stats.approx_misses_evicted_before)),
        ("Expired", grouped(stats.misses_expired)),
        ("Malformed", grouped(stats.misses_malformed)),
    ]
}

fn removals(stats: &Stats) -> Vec<Row> {
    let removals = &stats.removals;
    [
        ("Taken", removals.taken),
        ("Expired", removals.expired),
        ("Evicted", removals.evicted),
        ("Replaced", removals.replaced),
        ("Removed", removals.removed),
        ("Faulty", removals.faulty),
        ("Flushed", removals.flushed),
        ("Scope dropped", removals.scope_dropped),
        ("Rejected", removals.rejected),
        ("Closed", removals.closed),
    ]
    .map(|(name, count)| (name, grouped(count)))
    .to_vec()
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<link rel=\"icon\" href=\"data:,\">
<title>TLS session resumption</title>
<style>";

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6878; --paper: #f6f7f9;
  --card: #fff; --line: #e3e7ec; --good: #0b7a4b; --plain: #3b5b8c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --dim: #98a3b3; --paper: #12161c;
  --card: #1a2029; --line: #2a323e; --good: #10895a; --plain: #42649a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2rem 1rem; }
header { border-radius: 12px; padding: 1.5rem 2rem; color: #fff; background: var(--plain); }
header.resumed { background: var(--good); }
header p { margin: 0; max-width: 36rem; }
h1 { margin: 0 0 .25rem; font-size: 2.5rem; line-height: 1.1; letter-spacing: -.02em; }
.time { float: right; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.cards { columns: 2 20rem; column-gap: 1rem; margin: 1rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1rem 1.25rem; margin-bottom: 1rem; break-inside: avoid; }
h2 { margin: 0 0 .5rem; font-size: 1rem; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem 0; border-top: 1px solid var(--line); vertical-align: top; }
th { text-align: left; font-weight: normal; color: var(--dim); padding-right: 1rem; }
td { text-align: right; font-variant-numeric: tabular-nums; }
footer { color: var(--dim); font-size: .9rem; }
a { color: inherit; }
";

const FOOT: &str = "</div>
<footer>The connection ends after each answer, so a reload is a new one. \
<a href=\"/stats\">The same numbers as JSON</a></footer>
</main>
</body>
</html>
";
