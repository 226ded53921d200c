//! Sessions in a file: an embedded database behind the three callbacks.
//!
//! Its rows hold what TLS remembers of connections, keys included: who reads the file can decrypt
//! what the sessions protect, and pass for their clients. It is made for its owner alone, and what
//! the database has in memory or has freed in the file is not wiped. Keep it off backups.
//!
//! A write is seen by the next read at once and is on the disk [`SETTLE`] later. What a killed
//! server loses is therefore:
//!
//! * sessions of the last moment, whose clients make a full handshake;
//! * deletions of the last moment: a ticket that was taken *from memory* just before the kill may be
//!   found in the database once more. What was taken *from the database* is deleted on the disk
//!   before it is handed out, and never found again.
//!
//! What memory evicts stays in the file until its lifetime is over, and nothing else bounds the number of rows: who makes many
//! full handshakes can fill the disk. A server that everybody reaches counts its rows, and beyond some number forgets
//! what is evicted, too.
//!
//! This server accepts no early data, so that the second use of such a ticket replays nothing.
//!
//! The file is locked: one server has it at a time, and what is in its memory is all that there is beside the file. A
//! database that several servers share has to decide alone which of them may use a ticket. Then each of them sets
//! `CacheMode::SERVER | CacheMode::NO_INTERNAL`, so that memory keeps nothing and each take asks; without that, the
//! server that made a ticket finds it in memory though another one has taken its row.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use redb::{
    Database, Durability, Error, ReadableDatabase, ReadableTableMetadata, TableDefinition,
    backends::FileBackend,
};
use resumption::{
    Answer, Found, NewSession, Proposed, Reason, RemovedSession, Scope, SessionCache, SessionId,
    Verdict, Want,
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

/// The scope, with all its labels, and the id, to the second of wall-clock time in which the session expires
/// (no other clock goes on over a restart) and its payload.
///
/// The whole scope: a key of its name alone would let a session that was made without a check of the
/// client's certificate resume where there is one.
const ROWS: TableDefinition<'_, Key, Kept> = TableDefinition::new("sessions");

/// How long a write may be in memory only. To wait for the disk costs milliseconds: one wait for
/// the writes of this time, not one for each of them.
const SETTLE: Duration = Duration::from_millis(50);

/// How often rows are looked for that expired without being met: evicted sessions nobody asked for.
const SWEEP: Duration = Duration::from_secs(600);

/// The rows, and what was done to them.
#[derive(Debug)]
pub(crate) struct Rows {
    database: Database,
    /// Writes made, and those of them that are on the disk.
    written: AtomicU64,
    durable: AtomicU64,
    /// What the database could not do.
    failures: AtomicU64,
}

impl Rows {
    /// Opens the file, or makes it; expired rows are dropped.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, String> {
        let cannot = |error: Error| format!("cannot use {}: {error}", path.display());
        let file = private(path).map_err(|error| cannot(error.into()))?;
        let database = file
            .try_clone()
            .map_err(redb::DatabaseError::from)
            .and_then(FileBackend::new)
            .and_then(|file| Database::builder().create_with_backend(file))
            .map_err(|error| cannot(error.into()))?;
        // It may have been there, with another mode; and now it is known to be a database.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(|error| cannot(error.into()))?;
        let rows = Arc::new(Self {
            database,
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        rows.sweep().map_err(cannot)?;
        let weak = Arc::downgrade(&rows);
        thread::spawn(move || settle_again_and_again(&weak));
        Ok(rows)
    }

    /// Has the cache's callbacks write and read here.
    pub(crate) fn attach(self: &Arc<Self>, cache: &SessionCache) -> io::Result<()> {
        let rows = Arc::clone(self);
        cache.set_on_new(Some(Arc::new(move |new| rows.keep(&new))))?;
        let rows = Arc::clone(self);
        cache.set_on_remove(Some(Arc::new(move |removed| rows.forget(&removed))))?;
        let rows = Arc::clone(self);
        cache.set_on_get(Some(Arc::new(move |proposed| rows.answer(proposed))));
        Ok(())
    }

    /// The new-session callback. A session whose row cannot be written is still good in memory.
    fn keep(&self, new: &NewSession) -> Verdict {
        let session = new.session();
        let left = session.expires_at().saturating_duration_since(Instant::now());
        // Down to the second: a restart prolongs no session.
        let expiry = since_epoch().saturating_add(left).as_secs();
        let name = Name::new(new.scope(), session.id());
        self.write(Durability::None, |rows| {
            rows.insert(name.key(), (expiry, &session.payload()[..])).map(|_| ())
        });
        Verdict::Keep
    }

    /// The remove callback.
    fn forget(&self, removed: &RemovedSession) {
        // The session itself is still good: there was no room for it in memory, or the server ends.
        // The database has room, and outlives the server.
        if matches!(removed.reason(), Reason::Evicted | Reason::Closed) {
            return;
        }
        let name = Name::new(removed.scope(), removed.id());
        self.write(Durability::None, |rows| rows.remove(name.key()).map(|_| ()));
    }

    /// The get callback. Most ids that are asked for are unknown: these cost a read, which waits for
    /// no write.
    fn answer(&self, proposed: &Proposed<'_>) -> Answer {
        let name = Name::new(proposed.scope(), proposed.id());
        let Some(row) = self.read(&name) else { return Answer::Nothing };
        let row = match (row.lifetime(), proposed.want()) {
            (Some(_), Want::Get) => Some(row),
            // It waits for the disk; other connections of this thread need not wait with it.
            (Some(_), Want::Take) => block_in_place(|| self.take(&name)),
            (None, _) => {
                self.write(Durability::None, |rows| rows.remove(name.key()).map(|_| ()));
                None
            }
        };
        let Some((row, lifetime)) = row.and_then(|row| row.lifetime().map(|left| (row, left)))
        else {
            return Answer::Nothing;
        };
        // The key has both, so they are those of the session that was stored.
        let (id, scope) = (*proposed.id(), proposed.scope().clone());
        Answer::Give(Found::new(id, scope, row.payload.into(), lifetime))
    }

    fn read(&self, name: &Name) -> Option<Row> {
        let read = || -> Result<Option<Row>, Error> {
            let rows = self.database.begin_read()?.open_table(ROWS)?;
            Ok(rows.get(name.key())?.map(|row| Row::new(row.value())))
        };
        self.note(read()).flatten()
    }

    /// Deletes and returns a row in one transaction: of all that ask for it, also after a kill, one
    /// gets it. This is what makes a ticket single-use.
    fn take(&self, name: &Name) -> Option<Row> {
        self.write(Durability::Immediate, |rows| {
            Ok(rows.remove(name.key())?.map(|row| Row::new(row.value())))
        })?
    }

    fn sweep(&self) -> Result<(), Error> {
        let now = since_epoch().as_secs();
        self.transact(Durability::Immediate, |rows| rows.retain(|_, (expiry, _)| expiry > now))
    }

    /// Brings to the disk what has been written.
    pub(crate) fn settle(&self) {
        // Read first: what is written meanwhile is for the next time.
        let written = self.written.load(Relaxed);
        if written != self.durable.load(Relaxed)
            && self.note(self.transact(Durability::Immediate, |_| Ok(()))).is_some()
        {
            self.durable.fetch_max(written, Relaxed);
        }
    }

    fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Table<'_>) -> Changed<T>,
    ) -> Option<T> {
        let changed = self.note(self.transact(durability, change));
        self.written.fetch_add(1, Relaxed);
        changed
    }

    /// One transaction; what is not on the disk at its end is there after the next that waits.
    fn transact<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Table<'_>) -> Changed<T>,
    ) -> Result<T, Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        let changed = change(&mut transaction.open_table(ROWS)?)?;
        transaction.commit()?;
        Ok(changed)
    }

    /// Counts and reports a failure, and goes on without the database.
    fn note<T>(&self, result: Result<T, Error>) -> Option<T> {
        result
            .inspect_err(|error| {
                // A full disk fails each time: the first is told, the others are counted.
                if self.failures.fetch_add(1, Relaxed) == 0 {
                    let _ = writeln!(io::stderr(), "warning: the database failed: {error}");
                }
            })
            .ok()
    }

    /// How often the database could not do what it was to.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// What there is to tell of the rows.
    pub(crate) fn json(&self) -> Value {
        json!({
            "rows": self.len(),
            "written": self.written.load(Relaxed),
            "durable": self.durable.load(Relaxed),
            "failures": self.failures(),
        })
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        let count =
            || -> Result<u64, Error> { Ok(self.database.begin_read()?.open_table(ROWS)?.len()?) };
        self.note(count()).unwrap_or_default()
    }
}

type Key = (&'static [u8], &'static [u8]);
type Kept = (u64, &'static [u8]);
type Table<'a> = redb::Table<'a, Key, Kept>;
type Changed<T> = Result<T, redb::StorageError>;

/// What is kept of a session.
#[derive(Debug)]
struct Row {
    expiry: u64,
    payload: Vec<u8>,
}

impl Row {
    fn new((expiry, payload): (u64, &[u8])) -> Self {
        Self { expiry, payload: payload.to_vec() }
    }

    /// What is left of the session's lifetime; `None` if it is over.
    fn lifetime(&self) -> Option<Duration> {
        let left = Duration::from_secs(self.expiry).saturating_sub(since_epoch());
        Some(left).filter(|left| !left.is_zero())
    }
}

/// What a session is found by.
struct Name {
    scope: Vec<u8>,
    id: SessionId,
}

impl Name {
    fn new(scope: &Scope, id: &SessionId) -> Self {
        Self { scope: scope.to_bytes(), id: *id }
    }

    fn key(&self) -> (&[u8], &[u8]) {
        (&self.scope, self.id.as_bytes())
    }
}

/// A file that, if it is new, its owner alone can read from its first byte on.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn settle_again_and_again(rows: &Weak<Rows>) {
    let mut swept = Instant::now();
    while let Some(rows) = rows.upgrade() {
        rows.settle();
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            let _ = rows.note(rows.sweep());
        }
        drop(rows);
        thread::sleep(SETTLE);
    }
}
