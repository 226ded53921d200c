//! The example server with a database behind the cache: its sessions outlive the server.
//!
//! `database.rs` is what there is to see; the rest is the example server.

#[path = "../common/certificate.rs"]
mod certificate;
mod database;
#[path = "../common/drive/mod.rs"]
mod drive;
#[path = "../common/format.rs"]
mod format;
#[path = "../common/log.rs"]
mod log;
#[path = "../common/options.rs"]
mod options;
#[path = "../common/page.rs"]
mod page;
#[path = "../common/run.rs"]
mod run;
#[path = "../common/serve.rs"]
mod serve;
#[path = "../common/signals.rs"]
mod signals;
#[path = "../common/site.rs"]
mod site;
#[path = "../common/stats.rs"]
mod stats;
#[path = "../server/tls.rs"]
mod tls;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use database::Rows;
use options::Options;
use resumption::Stats;
use serde_json::json;
use signals::Signals;
use tls::Rustls;

/// What is waited for at the end, until the callbacks have been told of everything.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// An HTTPS server that remembers the TLS sessions of its clients in a file.
///
/// Sessions that memory has no room for, and those of a server that ended or was killed, are found in
/// the file. The file holds keys of connections: whoever can read it can decrypt what they protect.
/// It is made with mode 0600; keep it on a disk that you trust, and off backups.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Settings {
    #[command(flatten)]
    server: Options,

    /// The file for the sessions, made if it is not there. It holds keys of connections
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    run::end(serve_and_sum_up(&Settings::parse()).await)
}

async fn serve_and_sum_up(settings: &Settings) -> Result<ExitCode, String> {
    let options = &settings.server;
    // First of all, so that no signal from here on ends the process in another way.
    let mut signals = Signals::new().map_err(|error| format!("cannot receive signals: {error}"))?;
    let cache = run::cache(options)?;
    let path = settings.database.clone();
    let rows = tokio::select! {
        // A file whose server was killed is repaired first, which may take long.
        rows = run::aside(move || Rows::open(&path)) => rows.expect("it does not panic")?,
        () = signals.stop() => return Err("ended before the database was open".to_owned()),
    };
    let found = rows.len();
    rows.attach(&cache).map_err(|error| format!("cannot start the callbacks: {error}"))?;
    let mut server = run::server(options, cache.clone(), Rustls::new)?;
    let told = rows.clone();
    server.site.tell("database", move || told.json());
    let server = Arc::new(server);

    let summary = run::run(options, &mut signals, &server).await?;
    if let Err(late) = cache.close_within(LAST_CALLS) {
        run::tell(format_args!(
            "warning: {late}; the database may lack new sessions, and have tickets that were used"
        ));
    }
    rows.settle();
    let (stats, left) = (cache.stats(), rows.len());
    let Some(summary) = summary else {
        run::say(run::farewell(&server));
        run::say(sentence(&stats, found, left));
        return Ok(ExitCode::SUCCESS);
    };
    if options.json {
        let mut all = summary.json();
        all["get_called"] = json!(stats.get_called);
        all["get_answered"] = json!(stats.get_answered);
        all["rows_at_start"] = json!(found);
        all["rows_at_end"] = json!(left);
        all["database_failures"] = json!(rows.failures());
        run::say(all);
    } else {
        run::say(&summary);
        run::say(sentence(&stats, found, left));
    }
    // The cache goes on without its database, so that the clients of a drive do not notice.
    let is_good = summary.is_good() && rows.failures() == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sentence(stats: &Stats, found: u64, left: u64) -> String {
    let Stats { get_called, get_answered, .. } = stats;
    format!(
        "The database was asked {get_called} times and had {get_answered} of the sessions; \
         it held {found} at the start and holds {left} now."
    )
}
