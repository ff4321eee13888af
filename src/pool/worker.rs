//! A worker's life: it makes itself ready, and does one task after the other until there is a reason to leave.
//!
//! # Phases
//! | `desk.phase` | meaning                                              | left by                                   |
//! |--------------|------------------------------------------------------|-------------------------------------------|
//! | [`STARTING`] | it runs the initializer                              | success; its end is a failed start        |
//! | [`READY`]    | it takes tasks                                       | leaving, or its death                     |
//! | [`LEAVING`]  | it ends by itself, and is to be replaced             | its end                                   |
//! | [`IDLE`]     | it ends by itself, since there was nothing to do     | its end                                   |

use std::{fs, process, time::Duration};

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::{
    pool::{
        board::{Board, Orders, Run},
        call::{self, Trampoline},
        desk::Desk,
        site::Site,
        word::{Form, LIMITED, State, Word},
    },
    primitive::{Deadline, Relaxed, Release, SPINS, Wake, spin_hint},
    process::Limit,
};

/// See the module.
pub(super) const STARTING: u32 = 0;
pub(super) const READY: u32 = 1;
pub(super) const LEAVING: u32 = 2;
pub(super) const IDLE: u32 = 3;

/// More than this is given back to the allocator after a task.
const KEEP: usize = 4 << 20;

/// What a pool's builder said, as far as the supervisor and the workers need it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rules {
    pub(super) name: String,
    pub(super) limits: Vec<(Limit, u64)>,
    pub(super) max_tasks: Option<u64>,
    pub(super) max_age: Option<Duration>,
    pub(super) max_memory: Option<u64>,
    /// How long a worker stays without work, and how many stay all the same.
    pub(super) idle: Option<(Duration, usize)>,
    /// How many more tries a task gets that its worker has died of.
    pub(super) retries: u32,
    /// How many starts in a row may fail.
    pub(super) budget: u32,
    /// The pause after the first of them, and the longest.
    pub(super) pauses: (Duration, Duration),
    /// The signal by which a task is warned.
    pub(super) warning: i32,
}

/// What a worker does before it takes tasks.
pub(super) type Initializer = dyn Fn() -> Result<(), String>;

/// The whole of it. An error is the initializer's.
pub(super) fn work(
    site: &Site,
    rules: &Rules,
    index: usize,
    initializer: Option<&Initializer>,
) -> Result<(), String> {
    let desk = &site.board.desks[index];
    // ORDERING: Relaxed, for whoever looks from outside; the end of this process is told by the kernel.
    desk.pid.store(process::id(), Relaxed);
    initializer.map_or(Ok(()), |initialize| initialize())?;
    desk.phase.store(READY, Release);
    let mut worker = Worker {
        site,
        board: &site.board,
        desk,
        rules,
        index,
        born: Deadline::now(),
        done: 0,
        last: None,
        scratch: Vec::new(),
    };
    let phase = worker.live();
    desk.phase.store(phase, Release);
    Ok(())
}

struct Worker<'a> {
    site: &'a Site,
    board: &'a Board,
    desk: &'a Desk,
    rules: &'a Rules,
    index: usize,
    born: Deadline,
    done: u64,
    /// The last function, by its number: most are the same as the one before.
    last: Option<(u64, Trampoline)>,
    scratch: Vec<u8>,
}

impl Worker<'_> {
    /// Says why it ended.
    fn live(&mut self) -> u32 {
        let mut run = Run::default();
        loop {
            let taken = self.board.take(self.index, &mut run).or_else(|| self.find());
            if let Some((slot, word)) = taken {
                self.work(slot, word);
                if self.is_worn() {
                    return LEAVING;
                }
                continue;
            }
            // Nothing is READY for us; what comes from now on is another's, or the next one's.
            let orders = [Orders::Closed, Orders::Ended, Orders::Failed];
            if orders.into_iter().any(|order| self.board.is_ordered(order)) {
                return LEAVING;
            }
            let idle = self.rules.idle.filter(|&(_, keep)| self.index >= keep).map(|(after, _)| after);
            let limit = idle.map(Deadline::after).into_iter().chain(self.end_of_age()).min();
            if self.board.rest(self.index, limit) == Wake::TimedOut {
                return if self.is_worn() { LEAVING } else { IDLE };
            }
            if self.is_worn() {
                return LEAVING;
            }
        }
    }

    /// Looks a little longer, and at last everywhere.
    #[cold]
    fn find(&self) -> Option<(usize, Word)> {
        let mut run = Run::default();
        for _ in 0..SPINS {
            if self.board.has_more() {
                return self.board.take(self.index, &mut run).or_else(|| self.board.seek(self.index));
            }
            spin_hint();
        }
        self.board.seek(self.index)
    }

    #[inline]
    fn work(&mut self, slot: usize, word: Word) {
        // ORDERING: Relaxed, carried by the claim.
        let number = self.board.functions.at(slot).load(Relaxed);
        let trampoline = match self.last {
            Some((last, trampoline)) if last == number => trampoline,
            _ => {
                // SAFETY: the pool's parent, a process of this program, wrote a number that `call` made.
                let trampoline = unsafe { call::trampoline(number) };
                self.last = Some((number, trampoline));
                trampoline
            }
        };
        let next = if word.has(LIMITED) {
            self.work_within_limits(slot, word, trampoline)
        } else {
            trampoline(self.site, slot, word, &mut self.scratch)
        };
        self.done += 1;
        self.board.commit(slot, next);
        self.desk.tasks.store(self.done, Relaxed);
        if self.scratch.capacity() > KEEP {
            self.scratch = Vec::new();
        }
    }

    /// The supervisor is told when to interfere. It looks at `at`, `due` and `warned` only where they are not 0, and
    /// they are so only while the task in that slot is TAKEN by us.
    #[cold]
    fn work_within_limits(&mut self, slot: usize, word: Word, trampoline: Trampoline) -> Word {
        let [whole, soft, latest] = self.board.limits().map(|column| {
            let limit = column.at(slot).load(Relaxed);
            (limit != 0).then_some(limit)
        });
        let now = Deadline::now().as_nanos();
        if latest.is_some_and(|latest| latest <= now) {
            return word.settled(State::Late, Form::Cell);
        }
        let from_now = |span: u64| now.saturating_add(span);
        let due = whole.map(from_now).into_iter().chain(latest).min();
        self.desk.at.store(slot as u64, Relaxed);
        self.desk.warned.store(soft.map_or(0, from_now), Release);
        self.desk.due.store(due.unwrap_or(0), Release);
        self.site.kick();
        let next = trampoline(self.site, slot, word, &mut self.scratch);
        self.desk.due.store(0, Relaxed);
        self.desk.warned.store(0, Relaxed);
        next
    }

    fn end_of_age(&self) -> Option<Deadline> {
        let age = self.rules.max_age?;
        Some(Deadline::from_nanos(self.born.as_nanos().saturating_add(age.as_nanos() as u64)))
    }

    /// Whether it is to leave, so that another takes its place.
    #[inline]
    fn is_worn(&self) -> bool {
        let Rules { max_tasks, max_memory, .. } = self.rules;
        self.desk.retire.load(Relaxed) != 0
            || max_tasks.is_some_and(|most| self.done >= most)
            || self.end_of_age().is_some_and(|end| end.has_passed())
            || max_memory.is_some_and(|most| resident() > most)
    }
}

/// The memory of its own that this process has resident, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut fields = statm.split_ascii_whitespace().skip(1).filter_map(|pages| pages.parse::<u64>().ok());
    let (all, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    all.saturating_sub(shared) * size.unwrap_or(4096)
}
