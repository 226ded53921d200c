//! The threads of a test: one that is stopped, and others that have to go on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ALLOCATOR;
use crate::stage::{CALLS, Came, DOINGS, SETTINGS, SWEEPS, Stage};
use crate::support::{Random, wait_until};

/// Operations of each of the others before the next stop, at most: enough to meet the victim.
const LEASH: u64 = 500;

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The calls on one id.
    Calls,
    /// Mostly what is done to all sessions, and changes of settings.
    Everything,
}

/// What the threads share; leaked, for threads that are stopped cannot be borrowed from.
pub(crate) struct Arena {
    stage: AtomicPtr<Stage>,
    /// A cache that no thread uses any more, for one of them to drop.
    retired: AtomicPtr<Stage>,
    is_over: AtomicBool,
    part: Part,
    /// The planted bug.
    mutex: Option<Mutex<()>>,
    /// What the victim is doing.
    doing: AtomicU8,
    /// Operations completed: by the victim, then by the others.
    completed: [AtomicU64; 3],
    /// Operations after which a thread waits: it has done enough for this stop.
    allowed: [AtomicU64; 3],
    /// Puts that were refused, but for those of ids that were there.
    refused: AtomicU64,
}

/// The threads of a test; they end when this is dropped.
pub(crate) struct Crew {
    arena: &'static Arena,
    pub(crate) victim: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// A thread that did not go on while the victim was stopped.
#[derive(Debug)]
#[expect(dead_code, reason = "shown")]
pub(crate) struct Stall {
    doing: &'static str,
    completed: u64,
}

impl Crew {
    pub(crate) fn new(stage: Box<Stage>, others: usize, part: Part, planted: bool) -> Self {
        let arena: &'static Arena = Box::leak(Box::new(Arena {
            stage: AtomicPtr::new(Box::into_raw(stage)),
            retired: AtomicPtr::default(),
            is_over: AtomicBool::new(false),
            part,
            mutex: planted.then(Mutex::default),
            doing: AtomicU8::new(0),
            completed: Default::default(),
            allowed: std::array::from_fn(|_| AtomicU64::new(LEASH)),
            refused: AtomicU64::new(0),
        }));
        arena.allowed[0].store(u64::MAX, Ordering::SeqCst);
        let victim = thread::spawn(|| arena.run(0));
        let others = (1..=others).map(|at| thread::spawn(move || arena.run(at))).collect();
        let crew = Self { arena, victim, others };
        // The first use by a thread registers it with the C library, which takes a lock.
        wait_until("every thread has begun", || crew.completed().iter().all(|&count| count > 100));
        crew
    }

    /// The cache in use, as long as it is not changed.
    pub(crate) fn stage(&self) -> &Stage {
        // SAFETY: a stage is freed when another one was given, or by the crew's end.
        unsafe { &*self.arena.stage.load(Ordering::SeqCst) }
    }

    /// What the victim is doing, by its number.
    pub(crate) fn doing(&self) -> usize {
        usize::from(self.arena.doing.load(Ordering::SeqCst))
    }

    /// Puts that were refused, but for those of ids that were there.
    pub(crate) fn refused(&self) -> u64 {
        self.arena.refused.load(Ordering::SeqCst)
    }

    /// Operations completed by each thread that there is.
    pub(crate) fn completed(&self) -> Vec<u64> {
        let counts = self.arena.completed.iter().take(1 + self.others.len());
        counts.map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Waits until the others stand at the end of their leash.
    pub(crate) fn let_the_others_rest(&self) {
        wait_until("the others rest", || {
            let counts = self.completed().into_iter().zip(&self.arena.allowed).skip(1);
            counts.into_iter().all(|(count, allowed)| count >= allowed.load(Ordering::SeqCst))
        });
    }

    /// Gives the threads another cache, and lets one of them drop the old one.
    pub(crate) fn change_stage(&mut self, stage: Box<Stage>) {
        let old = self.arena.stage.swap(Box::into_raw(stage), Ordering::SeqCst);
        let before = self.completed();
        for (allowed, before) in self.arena.allowed.iter().zip(&before).skip(1) {
            allowed.store(before + LEASH, Ordering::SeqCst);
        }
        wait_until("every thread has left the old cache", || {
            self.completed().iter().zip(&before).all(|(now, before)| *now >= before + 2)
        });
        // Every operation reads the pointer anew, so the second one that has ended since the swap
        // has seen the new cache.
        let before = self.arena.retired.swap(old, Ordering::SeqCst);
        assert!(before.is_null(), "the cache before was dropped in the operations since");
    }

    /// Waits for a random number of the victim's operations, and a random while more.
    pub(crate) fn let_the_victim_run(&self, random: &mut Random) {
        let victim = &self.arena.completed[0];
        let most = if self.arena.part == Part::Calls { 200 } else { 20 };
        let goal = victim.load(Ordering::SeqCst) + 1 + random.below(most);
        wait_until("the victim goes on", || {
            for _ in 0..1_000 {
                if victim.load(Ordering::SeqCst) >= goal {
                    return true;
                }
                thread::yield_now();
            }
            false
        });
        for _ in 0..random.below(1_000) {
            std::hint::spin_loop();
        }
    }

    /// Waits until each of the others has completed `operations` more; fails when one of them has
    /// not completed any for as long as `patience`.
    pub(crate) fn others_complete(&self, operations: u64, patience: Duration) -> Result<(), Stall> {
        let before = self.completed();
        for (allowed, before) in self.arena.allowed.iter().zip(&before).skip(1) {
            allowed.store(before + operations + LEASH, Ordering::SeqCst);
        }
        for (at, before) in before.into_iter().enumerate().skip(1) {
            let (mut last, mut since) = (before, Instant::now());
            while last < before + operations {
                thread::sleep(Duration::from_micros(100));
                let now = self.arena.completed[at].load(Ordering::SeqCst);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > patience {
                    return Err(Stall { doing: DOINGS[self.doing()], completed: last - before });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.arena.is_over.store(true, Ordering::SeqCst);
        wait_until("every thread ends", || {
            self.victim.is_finished() && self.others.iter().all(JoinHandle::is_finished)
        });
        self.arena.drop_retired();
        let last = self.arena.stage.swap(std::ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: made by `Box::into_raw`, and no thread is left that uses it.
        drop(unsafe { Box::from_raw(last) });
    }
}

impl Arena {
    fn run(&self, at: usize) {
        let mut random = Random::new(at as u64);
        if at == 0 {
            ALLOCATOR.is_victim();
        }
        while !self.is_over.load(Ordering::SeqCst) {
            if self.completed[at].load(Ordering::Relaxed)
                >= self.allowed[at].load(Ordering::Relaxed)
            {
                // Leaves the processor to the victim.
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            let doing = self.choose(at, &mut random);
            // SAFETY: a stage is freed when this thread has read the pointer to the next one.
            let stage = unsafe { &*self.stage.load(Ordering::SeqCst) };
            let planted = self.mutex.as_ref().map(|mutex| mutex.lock());
            if at == 0 {
                self.doing.store(doing as u8, Ordering::SeqCst);
            }
            let came = stage.operate(doing, at as u64, &mut random);
            if at == 0 {
                self.doing.store(0, Ordering::SeqCst);
            }
            drop(planted);
            self.refused.fetch_add(u64::from(came != Came::Done), Ordering::SeqCst);
            self.completed[at].fetch_add(1, Ordering::SeqCst);
            if !self.retired.load(Ordering::Relaxed).is_null() {
                self.drop_retired();
            }
        }
    }

    /// What a thread does next. Changes of settings are the victim's: of two, one waits for the other.
    fn choose(&self, at: usize, random: &mut Random) -> u64 {
        let any = |random: &mut Random, of: &std::ops::Range<u64>| {
            of.start + random.below(of.end - of.start)
        };
        if self.part == Part::Everything {
            match (at, random.below(if at == 0 { 4 } else { 1_000 })) {
                (0, 0) => return any(random, &SETTINGS),
                (_, 0) | (0, 1) => return any(random, &SWEEPS),
                _ => {}
            }
        }
        // Puts are half of the calls: else there would be little to find.
        if random.below(3) == 0 { 1 + random.below(2) } else { any(random, &CALLS) }
    }

    fn drop_retired(&self) {
        let retired = self.retired.swap(std::ptr::null_mut(), Ordering::SeqCst);
        if !retired.is_null() {
            // SAFETY: made by `Box::into_raw`; nobody uses it, and the swap gave it to one thread.
            drop(unsafe { Box::from_raw(retired) });
        }
    }
}
