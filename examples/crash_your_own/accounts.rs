//! Two accounts and a lock: whoever holds it moves money from one to the other. A process that dies holding the lock
//! may have taken the money and not given it; the lock says so, and the first form does not listen. The second leaves a
//! note of what it is about to do, and whoever is told of a death puts the accounts back.

use std::io;

use pshared::{
    Atomic, Lock, LockError, LockGuard, Value,
    testing::{Check, Damage, Effort, Moment::*, Report, Until::*},
};

/// In the beginning, on both together.
const MONEY: u64 = 100;

struct Accounts {
    lock: Lock,
    one: Atomic<u64>,
    other: Atomic<u64>,
    /// What they were before the change that is under way; zeros, if there is none.
    before: Value<[u64; 2]>,
}

impl Accounts {
    fn new() -> Accounts {
        Accounts {
            lock: Lock::new().expect("memory"),
            one: Atomic::new(MONEY).expect("memory"),
            other: Atomic::new(0).expect("memory"),
            before: Value::new([0; 2]).expect("memory"),
        }
    }

    /// Takes no notice of a death.
    fn lock_and_hope(&self) -> LockGuard<'_> {
        self.lock.lock().unwrap_or_else(|error| {
            let mut guard = error.into_guard().expect("the lock, with news");
            guard.make_consistent();
            guard
        })
    }

    /// The fault: between the two changes the money is nowhere.
    fn transfer_and_hope(&self, sum: u64) {
        let _guard = self.lock_and_hope();
        self.one.fetch_sub(sum);
        self.other.fetch_add(sum);
    }

    /// Undoes what a dead holder has left half done.
    fn lock_and_mend(&self) -> LockGuard<'_> {
        match self.lock.lock() {
            Ok(guard) => guard,
            Err(LockError::OwnerDied(mut guard)) => {
                let before = self.before.get();
                if before != [0; 2] {
                    self.one.set(before[0]);
                    self.other.set(before[1]);
                    self.before.set([0; 2]);
                }
                guard.make_consistent();
                guard
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn transfer(&self, sum: u64) {
        let _guard = self.lock_and_mend();
        self.before.set([self.one.get(), self.other.get()]);
        self.one.fetch_sub(sum);
        self.other.fetch_add(sum);
        self.before.set([0; 2]);
    }
}

/// One dies transferring, a second sleeps on the lock or comes later and does the same: then all the money is there.
fn check(name: &'static str, transfer: fn(&Accounts, u64)) -> Check<Accounts> {
    Check::new(name, Accounts::new, move |accounts| transfer(accounts, 10))
        .before(|accounts| drop(accounts.lock.lock()))
        .companion("second", [(Death, Ended)], move |accounts| transfer(accounts, 20))
        .invariant(|accounts, end| {
            let (one, other) = (accounts.one.get(), accounts.other.get());
            Damage {
                torn: u64::from(one + other != MONEY),
                // Done is done.
                lost: u64::from(end.finished && other != 30),
                ..Damage::default()
            }
        })
}

/// What came of the two. Points between which nobody else can see a change are left out: an unoptimised build has
/// thousands of these.
pub fn both() -> io::Result<[Report; 2]> {
    let effort = Effort { writes_only: true, ..Effort::default() };
    let hoping = check("transfer and hope", Accounts::transfer_and_hope).run(effort)?;
    let mending = check("transfer", Accounts::transfer).run(effort)?;
    Ok([hoping, mending])
}
