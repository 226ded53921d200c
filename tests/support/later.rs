//! Answers that come when a test says so, and lookups that a test polls by hand.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use resumption::{Answer, Found, Proposed, SessionCache};

use crate::support::{MINUTE, number};

/// What is right to answer.
pub(crate) fn found<S>(proposed: &Proposed<'_>, payload: S) -> Found<S> {
    let (id, scope) = (*proposed.id(), proposed.scope().clone());
    Found::new(id, scope, payload, MINUTE)
}

/// Polls once, and is not woken.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

/// Polls once.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// An external cache whose answers come while it is open.
#[derive(Default)]
pub(crate) struct Gate {
    is_open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    asked: AtomicU64,
    waiting: AtomicU64,
}

impl Gate {
    /// Answers each lookup with the number of its id, later.
    pub(crate) fn behind(cache: &SessionCache<u64>) -> Arc<Self> {
        let gate = Arc::<Self>::default();
        let own = Arc::clone(&gate);
        cache.set_on_get(Some(Arc::new(move |proposed| {
            own.later(Answer::Give(found(proposed, number(proposed.id()))))
        })));
        gate
    }

    /// The answer, once this is open.
    pub(crate) fn later<S: Send + Sync + 'static>(
        self: &Arc<Self>,
        answer: Answer<S>,
    ) -> Answer<S> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let passed = self.passed();
        Answer::later(async move {
            passed.await;
            answer
        })
    }

    /// No answer, once this is open; what the hook has is run before that, by whoever polls it.
    pub(crate) fn later_runs<S: Send + Sync + 'static>(self: &Arc<Self>, hook: &Hook) -> Answer<S> {
        let (passed, hook) = (self.passed(), hook.clone());
        Answer::later(async move {
            passed.await;
            hook.run();
            Answer::Nothing
        })
    }

    /// Is ready once this is open, and counted as long as it lives.
    pub(crate) fn passed(self: &Arc<Self>) -> impl Future<Output = ()> + Send + Unpin + use<> {
        struct Waiting(Arc<Gate>);
        impl Drop for Waiting {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(Arc::clone(self));
        poll_fn(move |cx| {
            let gate = &waiting.0;
            gate.wakers.lock().unwrap().push(cx.waker().clone());
            if gate.is_open.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Opens, and wakes who waits.
    pub(crate) fn open(&self) {
        self.open_unheard();
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Opens, and wakes nobody.
    pub(crate) fn open_unheard(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    pub(crate) fn shut(&self) {
        self.is_open.store(false, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Futures that are not finished and not dropped.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// What is to happen once, in the middle of something else.
#[derive(Clone, Default)]
pub(crate) struct Hook(Arc<Mutex<Option<Job>>>);

impl Hook {
    pub(crate) fn set(&self, job: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(job));
    }

    /// Runs what was set, if that has not run.
    pub(crate) fn run(&self) {
        // In two statements: what runs may come here again.
        let job = self.0.lock().unwrap().take();
        job.into_iter().for_each(|job| job());
    }

    pub(crate) fn has_run(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}
