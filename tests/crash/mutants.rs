//! The known faults, put back in one at a time: each must be caught.
//!
//! The numbered ones were found by killing sketches of these protocols, and measured there:
//!
//! | fault | what was done                                                       | what was seen                       |
//! |-------|---------------------------------------------------------------------|-------------------------------------|
//! | 1     | an end's position overwritten before the commit                     | a hole in the ring                  |
//! | 2     | the consumer marks a record empty before it commits its progress    | wedged                              |
//! | 3     | a sleeper bit taken for one's own: no second look before the sleep  | wedged                              |
//! | 4     | the head's progress published by a store and a wake, two steps      | wedged senders                      |
//! | 6     | a bell beside the committing word                                   | wedged, 61 of 793 pairs             |
//! | 7     | a lock freed first and unlinked afterwards                          | older locks stay owned by the dead  |
//! | 8     | memory unmapped with a lock in it that is held                      | the same                            |
//! | 9     | an item that its dead taker had not taken from the ring counts as taken | finished twice, 2 of 76 |
//! | 12    | a counting word in the pending slot                                 | the count overwritten               |
//!
//! The matrix runs on the code that ships, in which no fault can be switched on. So the harness builds itself a
//! second time with `--cfg mutants`, in a target directory of its own, and that one hunts.

#[cfg(not(mutants))]
pub use build::build_and_hunt;
#[cfg(not(mutants))]
pub fn hunt(_seed: u64, _names: &[String]) -> bool {
    eprintln!("crash: --mutants needs the build with --cfg mutants; run without it, and it is made");
    false
}

#[cfg(mutants)]
pub use hunting::hunt;
#[cfg(mutants)]
pub fn build_and_hunt(seed: u64) -> bool {
    hunt(seed, &[])
}

#[cfg(not(mutants))]
mod build {
    use std::process::Command;

    /// Builds the harness with the faults, runs the hunt, and says whether all were caught.
    pub fn build_and_hunt(seed: u64) -> bool {
        println!("\nmutants: building with --cfg mutants");
        let ran = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["test", "--quiet", "--profile", "crash", "--test", "crash"])
            .args(["--target-dir", "target/mutants", "--config", "build.rustflags=['--cfg','mutants']"])
            .args(["--", "--mutants", "--seed", &seed.to_string()])
            .status();
        match ran {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("crash: the mutants could not be built: {error}");
                false
            }
        }
    }
}

#[cfg(mutants)]
mod hunting {
    use std::io::{Write, stdout};

    use pshared::{Mutant, set_mutant};

    use crate::{
        lanes,
        run::scenarios,
        scenario::{Effort, Scenario},
    };

    /// A fault, and where it must show.
    struct Quarry {
        mutant: Mutant,
        /// Its number in the table above, if it has one.
        fault: Option<u8>,
        /// The "operation: company" of a row. Tried in this order until one catches it.
        rows: &'static [&'static str],
    }

    const fn caught_by(mutant: Mutant, rows: &'static [&'static str]) -> Quarry {
        Quarry { mutant, fault: None, rows }
    }

    const fn fault(number: u8, mutant: Mutant, rows: &'static [&'static str]) -> Quarry {
        Quarry { mutant, fault: Some(number), rows }
    }

    /// It shows only when the victim gets the TID that it is meant to have, so it may be tried again.
    const COUNT: &str = "send: the count becomes its TID";

    const QUARRIES: &[Quarry] = &[
        caught_by(Mutant::DropWaiters, &["lock, unlock: woken, sleeper and barger"]),
        caught_by(Mutant::ReleaseThenWake, &["unlock: sleeper and barger"]),
        caught_by(Mutant::LastReleaseWakesOne, &["unlock: two sleepers and barger, few, by the hint"]),
        caught_by(Mutant::HeirForgetsWaiters, &["lock, unlock: woken by a death, sleeper"]),
        caught_by(Mutant::WaiterNotPending, &["lock, unlock: woken, sleeper"]),
        caught_by(Mutant::WaiterNotPending, &["recv: woken from the lock, can go on, one behind"]),
        fault(1, Mutant::PositionBeforeCommit, &["send: free, alone"]),
        fault(1, Mutant::PositionBeforeCommit, &["recv: free, alone"]),
        fault(2, Mutant::MarkEmptyBeforeCommit, &["recv: free, alone"]),
        fault(3, Mutant::TrustSleeperBit, &["send: stopped sleeper opposite"]),
        fault(3, Mutant::TrustSleeperBit, &["send: a dead sleeper's bit, stopped sleeper opposite"]),
        fault(3, Mutant::TrustSleeperBit, &["recv: stopped sleeper opposite"]),
        caught_by(Mutant::CommitThenWake, &["send: free, sleeper opposite"]),
        fault(4, Mutant::CommitThenWake, &["recv: free, sleeper opposite"]),
        fault(6, Mutant::BellBeside, &["send: stopped sleeper opposite"]),
        fault(6, Mutant::BellBeside, &["recv: stopped sleeper opposite"]),
        fault(7, Mutant::ReleaseBeforeUnlink, &["unlock: two more held, barger"]),
        fault(8, Mutant::UnmapHeldLock, &["drop of a region: a lock in it is held, and an older one"]),
        fault(12, Mutant::PendingOnCount, &[COUNT, COUNT, COUNT]),
        caught_by(Mutant::CloseBesideSleeper, &["close: stopped sender on its way to sleep"]),
        caught_by(Mutant::ClosedAtOnce, &["close: stopped sender at its commit, receiver asleep"]),
        caught_by(Mutant::BatchPieceByPiece, &["send_many: room for all, alone"]),
        fault(1, Mutant::PositionBeforeCommit, &["send_many: free, alone"]),
        caught_by(Mutant::CommitThenWake, &["send_many: free, sleeper opposite"]),
        fault(4, Mutant::CommitThenWake, &["recv_many: free, sleeper opposite"]),
        caught_by(Mutant::CommitUnrung, &["Sender::send: sleeper opposite"]),
        caught_by(Mutant::CommitUnrung, &["Receiver::recv: sleeper opposite"]),
        caught_by(Mutant::LeaveUntold, &["Sender::close: sleeper opposite"]),
        caught_by(Mutant::LeaveUntold, &["Receiver::close: sleeper opposite"]),
        caught_by(Mutant::CommitBeforeRecord, &["Sender::send: one comes late"]),
        caught_by(Mutant::DrainedBeforeJudged, &["Sender::send: stopped sleeper opposite"]),
        caught_by(Mutant::LeftUnseen, &["Sender::close: first use, stopped sleeper opposite"]),
        fault(9, Mutant::LeaseNotVoided, &["JoinableQueue::recv, done: alone"]),
        caught_by(Mutant::LeaseAfterHead, &["JoinableQueue::recv, done: alone"]),
        caught_by(Mutant::LeaseFreedThenWake, &["Task::give_back: receiver asleep"]),
        caught_by(Mutant::WatchWithoutWaiters, &["Task::done: receiver asleep"]),
        caught_by(Mutant::TakersUnwatched, &["Task::done: receiver asleep"]),
        caught_by(Mutant::FinishThenWake, &["Task::done: two joiners"]),
        caught_by(Mutant::FinishWakesOne, &["Task::done: two joiners"]),
        caught_by(Mutant::TakingNotTold, &["JoinableQueue::recv, done: joiner"]),
        caught_by(Mutant::SetThenWake, &["Event::set: sleeper"]),
        caught_by(Mutant::SetWakesOne, &["Event::set: two sleepers"]),
        caught_by(Mutant::ClearKeepsGeneration, &["Event::wait: woken by a pulse, two sleepers"]),
        caught_by(Mutant::HeirKeepsDepth, &["RLock::lock twice: alone"]),
        caught_by(Mutant::DoneBeforeDone, &["Once::call_once: alone"]),
        caught_by(Mutant::BellNotPending, &["Semaphore::release_many: sleeper"]),
        caught_by(Mutant::GiveWithoutWake, &["Semaphore::release_many: sleeper"]),
        caught_by(Mutant::HeadTrustsSleeper, &["Semaphore::release_many: stopped sleeper"]),
        caught_by(Mutant::HoldersUnwatched, &["Semaphore::permit: woken by a death, one behind"]),
        caught_by(Mutant::NewcomerPasses, &["Semaphore::try_acquire: promised"]),
        caught_by(Mutant::NotedAfterwards, &["drop of a permit: another held"]),
        caught_by(Mutant::NotedAfterwards, &["Semaphore::permit: alone"]),
        caught_by(Mutant::HeirSettlesNothing, &["drop of a permit: another held"]),
        caught_by(Mutant::HeirSettlesNothing, &["Semaphore::permit: alone"]),
        caught_by(Mutant::SlotBeforePermit, &["drop of a permit: alone"]),
        caught_by(Mutant::PartyNotPending, &["Barrier::wait: sleeper"]),
        caught_by(Mutant::BellNotPassedOn, &["Barrier::wait: woken by a death before it, sleeper before"]),
        caught_by(Mutant::RoundWakesOne, &["Barrier::wait: last, two sleepers"]),
        caught_by(Mutant::LastLooksAway, &["Barrier::wait: last, a dead party"]),
        caught_by(Mutant::ChangeUnnoted, &["RwLock::write: alone"]),
        caught_by(Mutant::WriterUnannounced, &["RwLock::unlock of a share: writer asleep"]),
        caught_by(Mutant::LineStaysAsleep, &["RwLock::read, unlock: woken by an upgrade taken back, line"]),
        caught_by(Mutant::LeaverKeepsWake, &["RwLock::read, unlock: woken, line"]),
        caught_by(Mutant::ListenerNotPending, &["Condition::wait: woken, sleeper"]),
        caught_by(Mutant::BatonNotHeld, &["Condition::wait: woken, sleeper, the lock is held"]),
        caught_by(Mutant::TokenBeforeLock, &["Condition::wait: woken, sleeper, the lock is held"]),
        caught_by(Mutant::SweepLeftUndone, &["Condition::notify_all: two sleepers"]),
        caught_by(Mutant::CommitWakesOne, &["send: two wait for any, receiver asleep"]),
        caught_by(Mutant::EntryUntold, &["Queue::sender: receiver asleep"]),
        caught_by(Mutant::PeersUnwatched, &["recv of a registered queue: another asleep behind"]),
        caught_by(Mutant::PipeUngreeted, &["Connection::send: first use, receiver asleep"]),
        caught_by(Mutant::PipeOwnerUnwatched, &["Connection::send: first use, receiver asleep"]),
        caught_by(Mutant::PipeClosedQuietly, &["drop of a connection: receiver asleep"]),
        caught_by(Mutant::DeathUnrung, &["Pool worker: gives a result, parent asleep"]),
        caught_by(Mutant::DeadKeepTasks, &["Pool worker: gives a result, takes the next"]),
        caught_by(Mutant::TaskUntold, &["Pool worker: woken for a task, another asleep"]),
        caught_by(Mutant::GateFreedUnopened, &["Process::spawn, join: a child that ends with it"]),
        caught_by(Mutant::VersionBeforeBytes, &["Value::update: reader"]),
    ];

    /// Hunts each, or those that are named, prints the table, and says whether all is as it should be.
    pub fn hunt(seed: u64, names: &[String]) -> bool {
        let all = scenarios();
        println!("\n{:<22} {:>5} {:<68} {:>6}", "mutant", "fault", "caught by", "kills");
        let is_named = |quarry: &&Quarry| {
            names.is_empty() || names.iter().any(|name| format!("{:?}", quarry.mutant).contains(name))
        };
        let quarries: Vec<_> = QUARRIES.iter().filter(is_named).collect();
        let mut well = true;
        let whole = lanes::each(
            quarries.len(),
            |place| hunt_one(quarries[place], &all, seed),
            |_, line| {
                println!("{}", line.unwrap_or("a lane ended"));
                well &= line.is_some_and(|line| !line.contains(ESCAPED));
                let _ = stdout().flush();
                line.is_some()
            },
        );
        well && whole
    }

    /// What the line of a mutant says that nothing caught.
    const ESCAPED: &str = "NOT CAUGHT";

    /// The line of one.
    fn hunt_one(quarry: &Quarry, all: &[Scenario], seed: u64) -> String {
        let effort = Effort { pairs: 1500, seed, hunting: true, ..Effort::default() };
        let fault = quarry.fault.map_or(String::new(), |number| number.to_string());
        let mutant = format!("{:<22} {fault:>5}", format!("{:?}", quarry.mutant));
        let mut kills = 0;
        for &name in quarry.rows {
            let Some(row) = all.iter().find(|row| row.name() == name) else {
                return format!("{mutant} {ESCAPED}, no such row: {name}");
            };
            set_mutant(quarry.mutant);
            let report = row.run(effort);
            set_mutant(Mutant::None);
            kills += report.kills;
            if report.damage.any() {
                return format!("{mutant} {name:<68} {kills:>6}");
            }
        }
        format!("{mutant} {ESCAPED:<68} {kills:>6}")
    }
}
