//! Shows the steps of one execution of a model: who does what, and where.
//!
//! A step is an access of loom's words, or what the reclaimer does. Words and what they lead to get short
//! names, in the order in which they are met.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::thread::panicking;

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static WORDS: RefCell<BTreeMap<usize, usize>> = RefCell::default();
    static BLOCKS: RefCell<BTreeMap<usize, usize>> = RefCell::default();
}

/// Shows the steps from now on, or no more.
pub(crate) fn set(on: bool) {
    IS_ON.set(on);
    WORDS.take();
    BLOCKS.take();
}

/// Shows a step, if steps are shown.
pub(crate) fn step(what: impl FnOnce() -> String) {
    if !IS_ON.get() || panicking() {
        return;
    }
    let thread = format!("{:?}", loom::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    eprintln!("  thread {thread}  {:<34} {}", what(), place());
}

/// The name of a word.
pub(crate) fn word<T>(word: &T) -> String {
    format!("w{}", number(&WORDS, std::ptr::from_ref(word).addr()))
}

/// The name of a block of memory.
pub(crate) fn block(address: usize) -> String {
    format!("b{}", number(&BLOCKS, address))
}

fn number(
    names: &'static std::thread::LocalKey<RefCell<BTreeMap<usize, usize>>>,
    of: usize,
) -> usize {
    names.with_borrow_mut(|names| {
        let next = names.len() + 1;
        *names.entry(of).or_insert(next)
    })
}

/// A value: a small number, or a block's name and the flags beside its address.
pub(crate) fn value(value: impl TryInto<u64>) -> String {
    const ADDRESS: u64 = (1 << 48) - 8;
    let value = value.try_into().unwrap_or(u64::MAX);
    if value < 1 << 16 {
        return format!("{value}");
    }
    // The code and the heap of a process are there; hashes and hints are above.
    if value & ADDRESS < 1 << 32 {
        return format!("{value:#x}");
    }
    let name = usize::try_from(value & ADDRESS).map_or_else(|_| String::from("?"), block);
    match (value & 7, value >> 48) {
        (0, 0) => name,
        (flags, 0) => format!("{name}+{flags}"),
        (flags, above) => format!("{name}+{flags}+{above:#x}"),
    }
}

/// The two innermost functions of the library that are not this layer's. Debug information names them
/// without their modules.
fn place() -> String {
    let trace = Backtrace::force_capture().to_string();
    let mut function = "";
    let mut places = Vec::new();
    for line in trace.lines().map(str::trim) {
        let Some(path) = line.strip_prefix("at ") else {
            function = line.split_once(": ").map_or(line, |(_, name)| name);
            continue;
        };
        let path = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src/"));
        let path = path.filter(|path| !path.starts_with("sync/"));
        let Some((place, _column)) = path.and_then(|path| path.rsplit_once(':')) else { continue };
        // A closure counts for the function that it stands in.
        let name = function.split(['<', '{']).next().unwrap_or(function).trim_end_matches(':');
        if name.is_empty() {
            continue;
        }
        places.push(format!("{name} ({place})"));
        if places.len() == 2 {
            break;
        }
    }
    places.join(", ")
}
