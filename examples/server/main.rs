//! An HTTPS server that resumes sessions from the cache, on rustls: `--help` says what it can do.
//!
//! What is particular to rustls is in `tls.rs`; the rest, under `examples/common`, would serve
//! any TLS library.

#[path = "../common/certificate.rs"]
mod certificate;
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
mod tls;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use options::Options;
use signals::Signals;

#[tokio::main]
async fn main() -> ExitCode {
    match serve_and_sum_up(&Options::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_and_sum_up(options: &Options) -> Result<ExitCode, String> {
    // First of all, so that no signal from here on ends the process in another way.
    let mut signals = Signals::new().map_err(|error| format!("cannot receive signals: {error}"))?;
    let server = Arc::new(run::server(options, run::cache(options)?)?);
    let Some(summary) = run::run(options, &mut signals, &server).await? else {
        run::say(run::farewell(&server));
        return Ok(ExitCode::SUCCESS);
    };
    if options.json {
        run::say(summary.json());
    } else {
        run::say(&summary);
    }
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
