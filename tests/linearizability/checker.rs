//! Whether the history of an id is linearizable: whether each operation can have taken effect at one
//! instant between its begin and its end, so that one thread doing them in that order would have seen
//! the same.
//!
//! "Just-in-time" (Lowe 2017, *Testing for linearizability*). The checker goes through the begins and
//! ends in the order of time, and keeps every *configuration* that is possible: what the id holds, and
//! which of the operations that have begun and not ended have taken effect already. An operation is let
//! take effect as late as it can: when it ends, or when another one that ends needs it before. If no
//! configuration is left, the history is not linearizable.
//!
//! What it remembers does not grow with the history, but with the operations that are open at once, of
//! which a thread has one: in theory 2^threads configurations, in practice a handful.

use std::collections::HashSet;

use crate::parts::history::{MOST_THREADS, Operation};
use crate::parts::spec::{Rules, State, after};

/// One way in which the history may have gone so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    state: State,
    /// The threads whose open operation has taken effect.
    done: u64,
}

/// The history of one id so far.
#[derive(Debug)]
pub(crate) struct Checker {
    rules: Rules,
    configurations: HashSet<Configuration>,
    /// Open operations by thread, and whether they met another one.
    open: Vec<(Operation, bool)>,
    pub(crate) tally: Tally,
}

/// What a checker has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Operations during which another one on the same id was open.
    pub(crate) overlapped: u64,
    /// The most configurations that were possible at once.
    pub(crate) widest: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.overlapped += other.overlapped;
        self.widest = self.widest.max(other.widest);
    }
}

/// The end of this operation left no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) Operation);

impl Checker {
    /// A checker of an id that holds this at first.
    pub(crate) fn new(rules: Rules, state: State) -> Self {
        let configurations = HashSet::from([Configuration { state, done: 0 }]);
        Self { rules, configurations, open: Vec::new(), tally: Tally::default() }
    }

    /// What the id holds, and the open operations that have not taken effect, if there is one possibility:
    /// what comes later depends on nothing else.
    pub(crate) fn settled(&self) -> Option<(State, Vec<Operation>)> {
        let only = self.configurations.iter().next().filter(|_| self.configurations.len() == 1)?;
        let open = self.open.iter().map(|(operation, _)| *operation);
        Some((only.state, open.filter(|open| only.done & bit(open) == 0).collect()))
    }

    /// The next operation, in the order of begins; those that have ended before it end first.
    pub(crate) fn next(&mut self, operation: &Operation) -> Result<(), Violation> {
        assert!(operation.thread < MOST_THREADS && operation.began <= operation.ended);
        self.end_before(operation.began)?;
        let is_new = |open: &(Operation, bool)| open.0.thread != operation.thread;
        assert!(self.open.iter().all(is_new), "a thread does one operation at a time");
        let meets = !self.open.is_empty();
        self.open.iter_mut().for_each(|open| open.1 = true);
        self.open.push((*operation, meets));
        Ok(())
    }

    /// Ends what has ended before `instant`, in the order of ends.
    pub(crate) fn end_before(&mut self, instant: u64) -> Result<(), Violation> {
        loop {
            let ended = self.open.iter().enumerate().filter(|(_, open)| open.0.ended < instant);
            let Some((at, _)) = ended.min_by_key(|(_, open)| open.0.ended) else { return Ok(()) };
            self.end(at)?;
        }
    }

    /// Keeps the configurations in which this open operation has taken effect, or can.
    fn end(&mut self, at: usize) -> Result<(), Violation> {
        let operation = self.open[at].0;
        let bit = bit(&operation);
        let mut left = HashSet::new();
        let mut seen = self.configurations.clone();
        let mut to_do: Vec<Configuration> = self.configurations.drain().collect();
        while let Some(Configuration { state, done }) = to_do.pop() {
            if done & bit != 0 {
                left.insert(Configuration { state, done: done & !bit });
                continue;
            }
            for (other, _) in self.open.iter().filter(|(other, _)| done & self::bit(other) == 0) {
                let Some(state) = after(state, other, self.rules) else { continue };
                let next = Configuration { state, done: done | self::bit(other) };
                if seen.insert(next) {
                    to_do.push(next);
                }
            }
        }
        self.tally.operations += 1;
        self.tally.overlapped += u64::from(self.open[at].1);
        self.tally.widest = self.tally.widest.max(left.len());
        if left.is_empty() {
            return Err(Violation(operation));
        }
        self.open.swap_remove(at);
        self.configurations = left;
        Ok(())
    }
}

fn bit(operation: &Operation) -> u64 {
    1 << operation.thread
}

/// Checks a whole history of one id, in the order of begins, which holds `state` at first.
pub(crate) fn check(
    operations: &[Operation],
    rules: Rules,
    state: State,
) -> Result<Tally, Violation> {
    let mut checker = Checker::new(rules, state);
    operations.iter().try_for_each(|operation| checker.next(operation))?;
    checker.end_before(u64::MAX)?;
    Ok(checker.tally)
}
