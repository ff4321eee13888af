//! A check of a structure of one's own, and the process that it runs in.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    rc::Rc,
};

use nix::{
    libc,
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork, pipe},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    board::board,
    company::{Body, Companion, LIMIT, Moment, Process, Until, keep_news},
    report::{Damage, Report},
    scenario::{Effort, End, Enters, Kind, Play, Scenario},
    stuck::show,
    trace::{allowed, stepped},
};

/// A part that somebody plays with the shared state.
pub(super) type Part<S> = Rc<dyn Fn(&S)>;

/// What is looked at in the end.
type Look<S> = Rc<dyn Fn(&S, &End) -> Damage>;

/// What is told of the state.
type Shows<S> = Rc<dyn Fn(&S) -> String>;

/// A companion: its name, its beats, its part.
type Role<S> = (&'static str, Vec<(Moment, Until)>, Part<S>);

/// An operation on a structure in shared memory, in one company: what is to be true however it dies.
///
/// Made anew for each trial, the state is there before any process is forked, so all see the same. See
/// [`testing`](super) for the whole, and `examples/crash_your_own/accounts.rs` for one to copy.
#[derive(Clone)]
pub struct Check<S> {
    name: &'static str,
    pub(super) make: Rc<dyn Fn() -> S>,
    before: Part<S>,
    pub(super) operation: Part<S>,
    enters: Enters,
    heir: Option<(Kind, Part<S>)>,
    companions: Vec<Role<S>>,
    invariant: Look<S>,
    shows: Option<Shows<S>>,
}

impl<S: 'static> Check<S> {
    /// A check that steps `operation` on what `make` sets up.
    pub fn new(
        name: &'static str,
        make: impl Fn() -> S + 'static,
        operation: impl Fn(&S) + 'static,
    ) -> Check<S> {
        Check {
            name,
            make: Rc::new(make),
            before: Rc::new(|_| ()),
            operation: Rc::new(operation),
            enters: Enters::Awake,
            heir: None,
            companions: Vec::new(),
            invariant: Rc::new(|_, _| Damage::default()),
            shows: None,
        }
    }

    /// What the victim does before it is stepped: for example its share of the set-up.
    pub fn before(mut self, part: impl Fn(&S) + 'static) -> Check<S> {
        self.before = Rc::new(part);
        self
    }

    /// The victim runs until it sleeps in the operation, and its points begin when a companion has woken it, at
    /// [`Moment::Wake`].
    pub fn woken(mut self) -> Check<S> {
        self.enters = Enters::Woken;
        self
    }

    /// A process beside the victim, which starts at the first of its beats and is let go from each
    /// [`pause`](super::pause) by the next; all must have ended a second after the last death.
    pub fn companion(
        mut self,
        name: &'static str,
        beats: impl Into<Vec<(Moment, Until)>>,
        part: impl Fn(&S) + 'static,
    ) -> Check<S> {
        self.companions.push((name, beats.into(), Rc::new(part)));
        self
    }

    /// A second one that dies: asleep in `part` before the victim dies, it is woken by the death, or by a companion,
    /// and killed on its way. The pairs of points are sampled, by the seed.
    pub fn heir(mut self, part: impl Fn(&S) + 'static) -> Check<S> {
        self.heir = Some((Kind::TwoDeaths, Rc::new(part)));
        self
    }

    /// A second one that stands stopped in the midst of `part` while the victim dies, and must then come to its end.
    pub fn stopped(mut self, part: impl Fn(&S) + 'static) -> Check<S> {
        self.heir = Some((Kind::StoppedSleeper, Rc::new(part)));
        self
    }

    /// What is looked at when all survivors have ended, in a process of its own: one that panics has found the state
    /// torn, and one that hangs, wedged.
    pub fn invariant(mut self, look: impl Fn(&S, &End) -> Damage + 'static) -> Check<S> {
        self.invariant = Rc::new(look);
        self
    }

    /// What a report tells of the state when somebody is stuck, beside the words that they sleep on: the crate's
    /// objects say by `Debug` who holds them, and who waits.
    pub fn shows(mut self, look: impl Fn(&S) -> String + 'static) -> Check<S> {
        self.shows = Some(Rc::new(look));
        self
    }

    /// Kills the victim at every point that is asked for, and says what came of it.
    ///
    /// # Errors
    /// Where ptrace(2) is forbidden nothing can be shown; or what is wrong with the set-up, as far as it can be said.
    pub fn run(&self, effort: Effort) -> io::Result<Report> {
        apart(|| {
            allowed().map_err(|error| format!("ptrace is forbidden here ({error}): nothing was shown"))?;
            Ok(self.scenario().run(effort))
        })
    }

    /// The same as a row of a table of one's own.
    pub fn scenario(&self) -> Scenario {
        let check = Check { companions: self.companions.clone(), heir: self.heir.clone(), ..self.share() };
        let kind = self.heir.as_ref().map_or(Kind::OneDeath, |(kind, _)| *kind);
        Scenario { operation: self.name, company: "", kind, play: Box::new(move || check.play()) }
    }

    fn share(&self) -> Check<S> {
        Check {
            name: self.name,
            make: self.make.clone(),
            before: self.before.clone(),
            operation: self.operation.clone(),
            enters: self.enters,
            heir: None,
            companions: Vec::new(),
            invariant: self.invariant.clone(),
            shows: self.shows.clone(),
        }
    }

    fn play(&self) -> Play {
        let state = Rc::new((self.make)());
        let traced = |before: Option<&Part<S>>, part: &Part<S>| -> Body {
            let (state, before, part) = (state.clone(), before.cloned(), part.clone());
            Box::new(move || {
                if let Some(before) = before {
                    before(&state);
                }
                stepped(|| part(&state));
            })
        };
        let companion = |(name, beats, part): &Role<S>| {
            let (state, part) = (state.clone(), part.clone());
            Companion::new(name, beats.clone(), move || part(&state))
        };
        if let Some(look) = self.shows.clone() {
            let state = state.clone();
            show(Some(Box::new(move || look(&state))));
        }
        let (auditor, audited) = (self.invariant.clone(), state.clone());
        Play {
            victim: traced(Some(&self.before), &self.operation),
            enters: self.enters,
            heir: self.heir.as_ref().map(|(_, part)| traced(None, part)),
            companions: self.companions.iter().map(companion).collect(),
            verify: Box::new(move |end| audit(|| auditor(&audited, end))),
        }
    }

    /// What the invariant says of a state.
    pub(super) fn look_at(&self, state: &S) -> Damage {
        audit(|| (self.invariant)(state, &End { finished: false }))
    }
}

impl<S> fmt::Debug for Check<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let companions: Vec<_> = self.companions.iter().map(|(name, ..)| name).collect();
        f.debug_struct("Check").field("name", &self.name).field("companions", &companions).finish()
    }
}

/// Looks in a process of its own.
fn audit(look: impl FnOnce() -> Damage) -> Damage {
    let mut auditor = Process::fork(|| {
        set_hook(Box::new(|_| ()));
        match catch_unwind(AssertUnwindSafe(look)) {
            Ok(damage) => board().judge(damage),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                board()
                    .say(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("the invariant panicked"));
                board().judge(Damage { torn: 1, ..Damage::default() });
            }
        }
    });
    if auditor.until_ended(LIMIT) && auditor.ended_well() {
        return board().judgement();
    }
    board().say("the invariant does not come to its end");
    Damage { wedged: 1, ..Damage::default() }
}

/// Works in a process of its own, which has one thread, hears of its children, and leaves nothing here.
pub(super) fn apart<T: Serialize + DeserializeOwned>(
    work: impl FnOnce() -> Result<T, String>,
) -> io::Result<T> {
    let (answer, way_home) = pipe()?;
    // SAFETY: the child goes on with this thread alone, as after every fork; what it uses of the program is its copy.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(answer);
            // SAFETY: a plain attribute of the process: it goes with who asked for it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            keep_news();
            let told = catch_unwind(AssertUnwindSafe(work)).is_ok_and(|result| {
                let bytes = postcard::to_stdvec(&result).expect("plain data");
                File::from(way_home).write_all(&bytes).is_ok()
            });
            // SAFETY: leaves without running what belongs to the parent.
            unsafe { libc::_exit(if told { 0 } else { 101 }) }
        }
    };
    drop(way_home);
    let mut bytes = Vec::new();
    let read = File::from(answer).read_to_end(&mut bytes);
    let ended = loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            ended => break ended?,
        }
    };
    read?;
    if !matches!(ended, WaitStatus::Exited(_, 0)) {
        return Err(io::Error::other(format!("the harness ended with {ended:?}")));
    }
    let result: Result<T, String> = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    result.map_err(io::Error::other)
}
