//! The start method *fork server*: a small process with one thread that forks for another, which is its parent.
//!
//! # Whose children they are
//! The server forks with CLONE_PARENT, so its children are those of *its parent*, the process that asked: that one
//! waits for them, learns how they ended and what they used, and is what they watch; the server is not in between. It
//! may be killed at any moment, and nobody but the next start takes notice. (What libc's own fork would have done
//! besides is in `os/fork.rs`.)
//!
//! # Words
//! | word      | meaning                                                     | written by                          |
//! |-----------|-------------------------------------------------------------|-------------------------------------|
//! | `newborn` | 0, or the number of the child that was forked for a request | the kernel, in the fork; the asker  |
//!
//! # The way of a start
//! 1. The asker holds its line to the server alone. It stores 0, shuts its gate, sends the order, and waits for an
//!    answer or for the server's end.
//! 2. The server takes the order's descriptors and forks, reading nothing. It answers with the number, or the error.
//! 3. The asker opens the pidfd, and then the gate, as after a fork of its own. The child reads the order.
//!
//! # Invariants
//! - S1: once the server has ended, `newborn` says for good whether there is a child: the kernel writes it in the call
//!   that forks, before the child runs, and no kill splits a call that has come so far.
//! - S2: a child that the asker does not learn of does nothing: it waits at the gate, and finds it given up.
//! - S3: so an order that met a dying server is sent to the next one if, and only if, nobody has it.
//!
//! # Ordering edges
//! - None of ours: the word is read when the answer, or the end, was heard through the kernel.
//!
//! # Crash points
//! - `server.asked`: the server dies without a child: the asker finds 0, starts another server, and sends anew.
//! - `server.born`: the server dies with its answer unsent: the asker finds the number.
//!
//! The asker may die anywhere: the server ends with it, and the child finds the gate shut for good, or its parent gone.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{libc, unistd::Pid};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    os::{
        fork::{self, Side, TidAddress},
        newborn, readiness,
        socket::{self, MOST_FILES},
    },
    primitive::{self, AtomicU32, Relaxed, lineage},
    process::{
        Builder, Function, JoinError, OnDrop, Process,
        function::Registered,
        gate::ShutGate,
        here, life,
        order::{self, Order, Parcel},
        reexec,
        spawn::{Departure, Silence, refused},
        watch::Watch,
    },
    region::{Descriptor, Handle, Shareable, in_arena, portable},
};

/// How many servers may end under one start before it gives up: more than one is killed by somebody on purpose.
const TRIES: usize = 100;

/// What server and asker share beside the socket.
#[repr(C)]
struct Post {
    newborn: AtomicU32,
}

// SAFETY: one atomic word.
unsafe impl Shareable for Post {
    const ROBUST: &'static [usize] = &[];
}

#[derive(Clone)]
struct Office {
    post: Handle<Post>,
}
portable!(Office { post });

/// What a server is told.
#[derive(Serialize, Deserialize)]
struct Terms {
    office: Office,
    socket: Descriptor,
    preload: Option<String>,
}

crate::functions! {
    static SERVE: fn(Terms) -> Result<(), String> = serve;
}

/// The asker's side: a server, and another when that one is gone. A clone is another handle to the same.
#[derive(Clone)]
pub(super) struct Server(Arc<Keeper>);

struct Keeper {
    lineage: u32,
    office: Office,
    preload: Option<&'static Function<(), ()>>,
    line: Mutex<Option<Line>>,
}

/// A server that runs, and the way to it. Its drop ends the server.
struct Line {
    socket: OwnedFd,
    server: Process<Result<(), String>>,
    /// Whose end a child of the server hears of: see `watch`.
    watch: Watch,
}

impl Server {
    pub(super) fn start(preload: Option<&'static Function<(), ()>>) -> Result<Server, SpawnError> {
        reexec::refuse_uninitialized()?;
        preload.map_or(Ok(()), Function::check)?;
        let post = in_arena(size_of::<Post>(), |region| region.place(Post { newborn: AtomicU32::new(0) }))?;
        let office = Office { post };
        let line = (0..TRIES).find_map(|_| Line::new(&office, preload).transpose());
        let line = Mutex::new(Some(line.unwrap_or_else(|| Err(given_up()))?));
        Ok(Server(Arc::new(Keeper { lineage: lineage(), office, preload, line })))
    }

    /// The way of a start.
    pub(super) fn serve<A, T>(
        &self,
        builder: Builder,
        function: &'static Function<A, T>,
        argument: &A,
    ) -> Result<Process<T>, SpawnError>
    where
        A: Serialize,
        T: Serialize + DeserializeOwned,
    {
        let Keeper { lineage: its, office, preload, line } = &*self.0;
        if *its != lineage() {
            return Err(SpawnError::NotParent);
        }
        here::here().reap();
        let Builder { name, daemon, outlive_parent, on_drop, settings } = builder;
        let identity = here::here().next(name, daemon, false);
        let (departure, report) = Departure::new(identity, !settings.is_plain())?;
        let blocked = newborn::members(&newborn::mask().map_err(refused("sigprocmask"))?);
        let gate = ShutGate::new()?;
        let mut order = Order {
            function: function.name().to_owned(),
            argument: Vec::new(),
            identity: departure.identity.clone(),
            watch: None,
            blocked,
            record: departure.record.try_clone().map_err(refused("dup"))?,
            report: report.map(Descriptor),
            gate: Some((gate.ticket().clone(), settings)),
        };
        function.check()?;
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            if !line.as_ref().is_some_and(|line| line.server.is_alive()) {
                *line = Line::new(office, *preload)?;
            }
            let Some(line) = &*line else { continue };
            order.watch = (!outlive_parent || departure.identity.daemon).then_some(line.watch);
            let parcel = Parcel::pack(|| {
                order.argument = order::encode(argument)?;
                order::encode(&order)
            })?;
            if let Some(pid) = line.ask(office, &parcel)? {
                // The end of the pipe must not be held here.
                drop((order, parcel));
                let child = departure.see_through(pid, gate, Silence::IsAChilds)?;
                return Ok(Process::new(child, on_drop));
            }
        }
        Err(given_up())
    }
}

fn given_up() -> SpawnError {
    SpawnError::Server { reason: format!("{TRIES} of them were killed") }
}

impl Line {
    /// Starts a server and waits until it serves; `None` when it was killed before.
    fn new(office: &Office, preload: Option<&'static Function<(), ()>>) -> Result<Option<Line>, SpawnError> {
        let (socket, there) = socket::pair().map_err(refused("socketpair"))?;
        let preload = preload.map(|function| function.name().to_owned());
        let terms = Terms { office: office.clone(), socket: Descriptor(there), preload };
        let builder = Builder::default().name("fork server").on_drop(OnDrop::Kill);
        let watch = Watch::on_this_process();
        let server = reexec::start(builder, &SERVE, &terms, true)?;
        drop(terms);
        let line = Line { socket, server, watch };
        if line.answer()?.is_some() {
            return Ok(Some(line));
        }
        let reason = match line.server.join() {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(reason)) => reason,
            Err(JoinError::NoValue { status }) if status.signal().is_some() => return Ok(None),
            Err(error) => error.to_string(),
        };
        Err(SpawnError::Server { reason })
    }

    /// Has a child forked for the order; `None` if the server has ended and there is no child.
    fn ask(&self, office: &Office, parcel: &Parcel) -> Result<Option<Pid>, SpawnError> {
        let newborn = &office.post.newborn;
        // ORDERING: Relaxed, carried to the server by the socket.
        newborn.store(0, Relaxed);
        let said = self.hand_over(parcel).and_then(|()| {
            // CRASH(server.asked): the number stays 0; the order is sent to another server.
            self.answer()
        });
        let nothing = match said {
            Ok(Some(pid @ 1..)) => return Ok(Some(Pid::from_raw(pid))),
            Ok(Some(error)) => return Err(refused("clone")(io::Error::from_raw_os_error(-error))),
            Ok(None) => Ok(None),
            Err(error) => {
                // Half an order, or an answer that was not heard, is in the socket: the next would take it for its own.
                let _ = self.server.kill();
                self.server.wait().map_err(refused("waitid"))?;
                Err(error)
            }
        };
        // CRASH(server.born): the kernel wrote the number in the fork itself (S1).
        // ORDERING: Relaxed, the server's end was heard through the kernel.
        match newborn.load(Relaxed) {
            0 => nothing,
            pid => Ok(Some(Pid::from_raw(pid as i32))),
        }
    }

    /// Sends the order, in as many pieces as its descriptors need. If the server is gone, that is for who listens.
    fn hand_over(&self, parcel: &Parcel) -> Result<(), SpawnError> {
        let files: Vec<BorrowedFd<'_>> = parcel.files().collect();
        let pieces = files.chunks(MOST_FILES);
        let last = pieces.len() - 1;
        for (number, piece) in pieces.enumerate() {
            match socket::send(self.socket.as_fd(), &[u8::from(number == last)], piece) {
                Err(error) if [libc::EPIPE, libc::ECONNRESET].map(Some).contains(&error.raw_os_error()) => {
                    break;
                }
                result => result.map_err(refused("sendmsg"))?,
            }
        }
        Ok(())
    }

    /// What the server says; `None` if it has ended without a word.
    fn answer(&self) -> Result<Option<i32>, SpawnError> {
        let mut files = [readiness::readable(self.socket.as_fd()), self.server.pollfd()];
        readiness::wait_ready(&mut files, None).map_err(refused("ppoll"))?;
        if files[0].revents == 0 {
            // It may have said it between the looks at the one and at the other.
            let now = Some(primitive::Deadline::now());
            readiness::wait_ready(&mut files[..1], now).map_err(refused("ppoll"))?;
        }
        let mut bytes = [0; 4];
        if files[0].revents != 0
            && let Ok((4, _)) = socket::receive(self.socket.as_fd(), &mut bytes)
        {
            return Ok(Some(i32::from_le_bytes(bytes)));
        }
        // The end of the socket comes a little before that of the process, which alone is final (S1).
        self.server.wait().map_err(refused("waitid"))?;
        Ok(None)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.line.try_lock();
        let server = line.as_ref().ok().and_then(|line| line.as_ref()).map(|line| line.server.pid());
        f.debug_struct("Server").field("pid", &server).field("preload", &self.0.preload).finish()
    }
}

/// The server's side.
fn serve(terms: Terms) -> Result<(), String> {
    let Terms { office, socket: Descriptor(socket), preload } = terms;
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    // Ctrl-C is for those who work.
    let interrupt = newborn::ignore(libc::SIGINT).map_err(failed("sigaction"))?;
    if let Some(name) = preload {
        let function =
            Registered::find(&name).ok_or_else(|| format!("no function is registered as {name}"))?;
        function.run(&[])?;
    }
    let threads = fork::staying_thread_count().map_err(failed("a look at /proc/self/task"))?;
    if threads > 1 {
        return Err(format!("it has {threads} threads after its preload, need 1"));
    }
    primitive::me();
    let tid = TidAddress::of_this_thread().map_err(failed("prctl(PR_GET_TID_ADDRESS)"))?;
    let number = ptr::from_ref(&office.post.newborn).cast_mut().cast::<u32>();
    // Its page is there from now on: what the kernel cannot write to it in a fork, it drops without a word.
    // ORDERING: Relaxed, nothing is changed.
    office.post.newborn.fetch_or(0, Relaxed);
    let answer = |number: i32| socket::send(socket.as_fd(), &number.to_le_bytes(), &[]);
    answer(0).map_err(failed("sendmsg"))?;
    while let Some(order) = next_order(socket.as_fd()) {
        let forked = order.and_then(|files| {
            // SAFETY: this process has one thread, and `number` is a word of shared memory that stays mapped.
            unsafe { fork::fork_for_parent(number, tid) }.map(|side| (side, files))
        });
        match forked {
            Ok((Side::Child, files)) => {
                primitive::after_fork_in_child();
                drop(socket);
                let _ = newborn::restore(libc::SIGINT, interrupt);
                follow(Parcel::arrived(files))
            }
            // An asker that is gone takes us with it.
            Ok((Side::Parent(pid), _)) => drop(answer(pid.as_raw())),
            Err(error) => drop(answer(-error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
    Ok(())
}

/// The descriptors of the next order; none when nobody will ask any more.
fn next_order(socket: BorrowedFd<'_>) -> Option<io::Result<Vec<OwnedFd>>> {
    let mut order = Ok(Vec::new());
    loop {
        let mut is_last = [0];
        match socket::receive(socket, &mut is_last) {
            Ok((0, _)) => return None,
            Ok((_, files)) => {
                // A server without a standard stream would be given its number.
                let files = files.into_iter().map(newborn::above_the_streams).collect::<io::Result<Vec<_>>>();
                order = order.and_then(|order| Ok(order.into_iter().chain(files?).collect()));
            }
            Err(error) => order = Err(error),
        }
        if is_last != [0] {
            return Some(order);
        }
    }
}

/// The life of a child that was forked here.
fn follow(parcel: Parcel) -> ! {
    let _ = parcel.open(|message| -> io::Result<()> {
        let order: Order = postcard::from_bytes(message).map_err(|_| io::ErrorKind::InvalidData)?;
        reexec::obey(order)
    });
    fork::leave(life::REFUSED)
}
