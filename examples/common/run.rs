//! A server from its first line to its last: listens, obeys signals, is driven if it was asked for.
//! Each example brings its own cache and says its own farewell.

use std::{
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use resumption::{Scope, SessionCache, Sessions};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    certificate::Source,
    drive::{self, Plan, Summary},
    log::Log,
    options::Options,
    serve::{Server, Tls, serve},
    signals::{Order, Signals},
    site::Site,
};

/// The cache that the options ask for.
pub(crate) fn cache<S: Send + Sync + 'static>(
    options: &Options,
) -> Result<SessionCache<S>, String> {
    SessionCache::builder()
        .max_sessions(options.max_sessions.get())
        .lifetime(options.lifetime)
        .build()
        .map_err(|error| format!("cannot make the cache: {error}"))
}

/// A server whose sessions are in this cache; `tls` makes its TLS side.
pub(crate) fn server<S: Send + Sync + 'static, T>(
    options: &Options,
    cache: SessionCache<S>,
    tls: impl FnOnce(Source, &Sessions<S>) -> Result<T, String>,
) -> Result<Server<T>, String> {
    // One site, one way to verify its clients (none): one scope.
    let sessions = cache.scope(&Scope::new("public-web"));
    let tls = tls(Source::of(options), &sessions)?;
    Ok(Server { tls, site: Site::new(move || cache.stats()), log: Log::new(options.verbose) })
}

/// All that a server without a farewell of its own does.
#[allow(dead_code, reason = "one example says more at its end")]
pub(crate) async fn whole<S: Send + Sync + 'static, T: Tls>(
    options: &Options,
    tls: impl FnOnce(Source, &Sessions<S>) -> Result<T, String>,
) -> Result<ExitCode, String> {
    // First of all, so that no signal from here on ends the process in another way.
    let mut signals = Signals::new().map_err(|error| format!("cannot receive signals: {error}"))?;
    let server = Arc::new(server(options, cache(options)?, tls)?);
    let Some(summary) = run(options, &mut signals, &server).await? else {
        say(farewell(&server));
        return Ok(ExitCode::SUCCESS);
    };
    if options.json {
        say(summary.json());
    } else {
        say(&summary);
    }
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How the program ends; an error is told.
pub(crate) fn end(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        tell(format_args!("error: {error}"));
        ExitCode::FAILURE
    })
}

/// Serves until a signal or the end of the drive; the summary is that of the drive.
pub(crate) async fn run<T: Tls>(
    options: &Options,
    signals: &mut Signals,
    server: &Arc<Server<T>>,
) -> Result<Option<Summary>, String> {
    let listener = listen(options.address()).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(server.clone(), listener, options.connections(), stopped));

    let Some(seconds) = options.drive else {
        announce(address);
        obey(signals, server).await;
        stop.send_replace(true);
        finish(serving, signals).await;
        return Ok(None);
    };
    let plan = Plan {
        address,
        clients: options.clients(),
        time: Duration::from_secs(seconds),
        tickets: (options.max_sessions.get() / 8).min(4_096),
        pins: server.tls.pins(),
    };
    let summary = drive(plan, signals, server).await?;
    stop.send_replace(true);
    finish(serving, signals).await;
    Ok(Some(summary))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use; choose another with --listen (port 0: any free one)")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn announce(address: SocketAddr) {
    say(format_args!(
        "Ready on https://{address}/ - open it and reload, or twice: printf 'GET / HTTP/1.0\\r\\n\\r\\n' \
         | openssl s_client -connect {address} -tls1_3 -ign_eof -sess_out s.pem \
         (the second time with -sess_in s.pem: it says Reused)"
    ));
}

/// Does as the signals say, until one of them says stop.
async fn obey<T: Tls>(signals: &mut Signals, server: &Server<T>) {
    while signals.next().await == Order::Reload {
        let tls = &server.tls;
        match tls.reload() {
            Ok(()) => {
                let (what, kept) = (tls.source().describe(), server.site.stats().sessions);
                tell(format_args!("Reloaded: now with {what}; {kept} sessions kept."));
            }
            Err(error) => tell(format_args!("Not reloaded, the old certificate stays: {error}")),
        }
    }
}

/// Drives in threads of its own; a signal ends it early, and a second one at once.
async fn drive<T: Tls>(
    plan: Plan,
    signals: &mut Signals,
    server: &Server<T>,
) -> Result<Summary, String> {
    let Plan { address, clients, time, .. } = plan;
    tell(format_args!(
        "Driving https://{address}/ with {clients} clients for {} s.",
        time.as_secs()
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let mut driving = aside(move || drive::run(&plan, &stopped));
    tokio::select! {
        summary = &mut driving => return Ok(summary.expect("the drive does not panic")),
        () = obey(signals, server) => stop.store(true, Relaxed),
    }
    tell("Ending when the clients have done what they have begun; another signal ends at once.");
    tokio::select! {
        summary = driving => Ok(summary.expect("the drive does not panic")),
        () = signals.stop() => Err("the drive was broken off".to_owned()),
    }
}

/// Runs what may take long in a thread that the end of the program does not wait for, as it would for a blocking task.
pub(crate) fn aside<R: Send + 'static>(
    run: impl FnOnce() -> R + Send + 'static,
) -> oneshot::Receiver<R> {
    let (done, result) = oneshot::channel();
    thread::spawn(move || done.send(run()));
    result
}

/// Waits for running connections, or no longer than until the next signal to stop.
async fn finish(serving: JoinHandle<()>, signals: &mut Signals) {
    tokio::select! {
        _ = serving => {}
        () = signals.stop() => {}
    }
}

/// A line on stdout, where nobody may be listening any more.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// What happens on the way, on stderr. Nobody may be there to read it any more.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What the server did, in a sentence.
pub(crate) fn farewell<T>(server: &Server<T>) -> String {
    let counters = &server.site.counters;
    let (full, resumed) = (counters.full.load(Relaxed), counters.resumed.load(Relaxed));
    format!(
        "Served {} connections: {full} full handshakes, {resumed} resumed, {} failed.",
        counters.connections.load(Relaxed),
        counters.failed.load(Relaxed),
    )
}
