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

use std::process::ExitCode;

use clap::Parser;
use options::Options;
use tls::Rustls;

#[tokio::main]
async fn main() -> ExitCode {
    run::end(run::whole(&Options::parse(), Rustls::new).await)
}
