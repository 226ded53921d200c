//! The two pages of the server, and the counters of its own that they show.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderValue},
};
use resumption::Stats;
use serde_json::{Value, json};

use crate::{page, stats};

/// How the handshake of a connection went, whichever TLS library made it.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) resumed: bool,
    pub(crate) protocol: String,
    pub(crate) suite: String,
}

/// A connection that is through with its handshake.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) handshake: Handshake,
    pub(crate) took: Duration,
    /// When the handshake was complete.
    pub(crate) since: Instant,
}

/// After so long without a request, a connection was not made for the request that it gets.
const SPARE: Duration = Duration::from_secs(1);

impl Visit {
    /// Browsers open a second connection beside the first, before they have a ticket for it, and
    /// use it for the reload: it would tell of the first visit once more.
    fn is_spare<B>(&self, request: &Request<B>) -> bool {
        let browser = request.headers().contains_key("sec-fetch-mode");
        browser && !self.handshake.resumed && self.since.elapsed() > SPARE
    }
}

/// What happened since the start; each number by itself, relaxed, for people to look at.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) full: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, handshake: &Handshake) {
        let counter = if handshake.resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Relaxed);
    }

    fn json(&self) -> Value {
        json!({
            "connections": self.connections.load(Relaxed),
            "handshakes_full": self.full.load(Relaxed),
            "handshakes_resumed": self.resumed.load(Relaxed),
            "handshakes_failed": self.failed.load(Relaxed),
        })
    }
}

pub(crate) struct Site {
    /// Reads the cache's counters; the cache itself is of each TLS library's own payload.
    stats: Box<dyn Fn() -> Stats + Send + Sync>,
    pub(crate) counters: Counters,
    /// What an example has to tell under /stats beside cache and server: a name and its object.
    more: Option<(&'static str, Box<Tell>)>,
}

type Tell = dyn Fn() -> Value + Send + Sync;

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Site {
    pub(crate) fn new(stats: impl Fn() -> Stats + Send + Sync + 'static) -> Self {
        Self { stats: Box::new(stats), counters: Counters::default(), more: None }
    }

    /// The cache's counters.
    pub(crate) fn stats(&self) -> Stats {
        (self.stats)()
    }

    /// Adds to what /stats tells.
    #[allow(dead_code, reason = "not every example has more to tell")]
    pub(crate) fn tell(
        &mut self,
        name: &'static str,
        tell: impl Fn() -> Value + Send + Sync + 'static,
    ) {
        self.more = Some((name, Box::new(tell)));
    }

    pub(crate) fn respond<B>(&self, visit: &Visit, request: &Request<B>) -> Response<String> {
        let path = request.uri().path();
        if !matches!(path, "/" | "/stats") {
            return plain(StatusCode::NOT_FOUND, "There are / and /stats here, nothing else.\n");
        }
        // Of an answer to HEAD, hyper sends the head alone.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal =
                plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        if path == "/stats" {
            return self.counts();
        }
        if visit.is_spare(request) {
            return elsewhere();
        }
        self.page(visit)
    }

    /// The last answer of its connection: the next one shows whether a new connection resumes.
    fn page(&self, visit: &Visit) -> Response<String> {
        let html = page::html(visit, &self.stats(), &self.counters);
        let mut response = response(StatusCode::OK, "text/html; charset=utf-8", html);
        let policy = HeaderValue::from_static(page::POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        closing(response)
    }

    fn counts(&self) -> Response<String> {
        let mut all = stats::json(&self.stats());
        all["server"] = self.counters.json();
        if let Some((name, tell)) = &self.more {
            all[*name] = tell();
        }
        response(StatusCode::OK, "application/json", format!("{all:#}\n"))
    }
}

/// Has the browser ask again on a new connection.
fn elsewhere() -> Response<String> {
    let mut redirect = plain(StatusCode::TEMPORARY_REDIRECT, "Ask on a new connection.\n");
    redirect.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    closing(redirect)
}

fn closing(mut response: Response<String>) -> Response<String> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    response(status, "text/plain; charset=utf-8", text.to_owned())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
