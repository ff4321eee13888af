//! The design: layers, protocols, crash points, proofs. There is no code here.
//!
//! # The promise
//! Any process may be SIGKILLed at any instruction. The others go on, and nothing that was committed is lost, doubled
//! or torn. Every operation ends with a result or a typed error, and a death is news from the kernel, not a guess by
//! time.
//!
//! What is *not* promised: a stopped process (SIGSTOP, a debugger, a core dump being written) is not dead, and what it
//! holds stays held; timeouts end all the same. Processes that share locks trust each other: the links of a held lock
//! lie in shared memory. What else a peer scribbles there gives wrong answers, errors and timeouts, and nothing worse:
//! `SECURITY.md` tells, object by object, and `fuzz/` shows. A message that a plain `recv` has taken is its process's
//! own, and dies with it.
//!
//! # Layers
//! Imports go one way, and `error` stands below all:
//!
//! ```text
//! testing, pool -> process -> queue, pipe, value -> sync -> region -> primitive -> os
//! ```
//!
//! | room        | what it knows                                                                              |
//! |-------------|--------------------------------------------------------------------------------------------|
//! | `os`        | one family of system calls a file; no policy                                               |
//! | `primitive` | the seam: words, futex, robust list, the calling thread; native, or modelled under loom    |
//! | `region`    | memory: a sealed memfd, its header, a bump pointer, handles; nothing waits                  |
//! | `sync`      | futex algorithms over words                                                                |
//! | `value`     | [`Value`](crate::Value), [`Atomic`](crate::Atomic), [`Array`](crate::Array)                |
//! | `queue`     | doorbell, ring, ends, [`Queue`](crate::Queue); leases, [`JoinableQueue`](crate::JoinableQueue) |
//! | `pipe`      | [`pipe`](crate::pipe), [`duplex`](crate::duplex): sockets, each its first user's           |
//! | `process`   | [`Process`](crate::Process), [`Builder`](crate::Builder): start, watch, reap               |
//! | `pool`      | [`Pool`](crate::Pool): a supervisor, its workers, the board on which tasks lie             |
//! | `testing`   | the exact kill, a feature: steps, kills and looks; shares nothing with what it looks at     |
//!
//! # Vocabulary
//! - *owner*, *waiters*, *owner died*, *consistent*: as POSIX says of robust mutexes.
//! - *pending slot*, *robust list*: what the kernel reads when a thread ends (`os/robust_list.rs`).
//! - *tail*, *head*: the producer's and the consumer's end of a ring; a *place* is {count, position}; a *doorbell* is
//!   the word that commits and that sleepers sleep on.
//! - *head of line*: the one process of an end that waits for the ring; it holds the end's lock while it sleeps.
//! - *lineage*: how many forks lie between the program's start and this process; tells a copy from an original.
//!
//! # What the kernel does at a death
//! Each thread has one robust list. At its end (and at exec) the kernel walks the list, then looks at the pending slot:
//!
//! | word                                 | the kernel                                          |
//! |--------------------------------------|-----------------------------------------------------|
//! | low 30 bits are the dying TID        | writes OWNER_DIED, keeps WAITERS, wakes one if set  |
//! | pending, low 30 bits are 0           | leaves it, wakes one                                |
//! | anything else                        | nothing                                             |
//!
//! So a pending word that nobody owns means "if I die now, wake one sleeper here", which finishes our wake-ups for us.
//! A counting word must never be pending: a count that equals the TID is overwritten. FUTEX_WAKE_OP changes a word and
//! wakes in one system call, which no kill can split; its argument has 12 bits.
//!
//! # Protocols
//! Each is stated in the header of its file: words, invariants, ordering edges, crash points.
//!
//! - **Lock** (`sync/raw_lock.rs`). Taking keeps WAITERS; a release that sees it is one FUTEX_WAKE_OP.
//!   A held lock is linked into libc's own robust list, which costs nothing measurable and covers several locks, and
//!   foreign robust mutexes among them.
//! - **Event** (`sync/event.rs`). One word: sleepers, set, generation. Setting is one exchange, or one FUTEX_WAKE_OP
//!   that ors a bit, which may be made twice; a waiter goes by the generation in which it began.
//! - **RLock** (`sync/rlock.rs`). A lock, and beside it the holder's process and depth, which the holder alone writes.
//! - **Once** (`sync/once.rs`). A lock that the initialiser holds, and a flag that it stores last.
//! - **Semaphore** (`sync/raw_semaphore.rs`). One word: SLEEPER, guards, free permits. Taking and giving are one
//!   exchange each. The head of the line sleeps on the word, on a bell that the kernel rings if a giver dies between
//!   its exchange and its wake, and on the slots of the guards that are out; the others of the line sleep on the line's
//!   lock.
//! - **Permits held by guards** (`sync/ledger.rs`). A guard is a slot, which is a lock. Each move of a permit between
//!   the count and a slot is noted first, under a lock, and the number of guards in the word tells whether it was made.
//!   A semaphore of which no guards can be out has none of this, and takes one line.
//! - **Barrier** (`sync/raw_barrier.rs`). Arriving is one exchange, which puts the slot that one holds on a list: so it
//!   is known who has come, not only how many. Each who waits watches another's slot, compared when it can already be
//!   woken; what a death leaves to do, the bell wakes one for, and that one wakes all.
//! - **Slots** (`sync/slots.rs`). A row of locks, one for each thread that takes part in an object: a count does not
//!   say whose part of it died. The kernel gives a dead thread's slot back.
//! - **RwLock** (`sync/raw_rwlock.rs`). To read is to hold a slot, claimed while no writer was there; the writer shuts
//!   the door first and looks at the slots then, so one of the two sees the other. Only the holder of the writers' lock
//!   touches the door, and its heir opens it: nobody waits for the door itself. A dead writer is news if it had begun.
//! - **Condition** (`sync/condition.rs`). Notifications are tokens that stay until their taker has the user's lock; a
//!   wake is a hint, and a hint that a death eats is given anew by the kernel or by whoever holds the baton. A token is
//!   for those who came before it.
//! - **Value** (`value/value.rs`). Two copies and a version: the version's store commits. Readers take no lock. A
//!   writer works on a private copy, so there is nothing to repair after a death and nothing to report.
//! - **Array** (`value/array.rs`). In place. The lock's note says `OwnerDied` while a change is under way, so the
//!   death of a reader casts no doubt.
//! - **Doorbell** (`queue/doorbell.rs`). Bit 0: somebody sleeps; bit 1: closed; the rest counts commits. A commit is
//!   one exchange, or one FUTEX_WAKE_OP if somebody sleeps.
//! - **Ring** (`queue/ring.rs`). Each end keeps two places and believes the one whose count its doorbell shows. The
//!   next place is stored *before* the commit, into the other slot: whoever inherits the end finds it right without
//!   looking for OWNER_DIED, and neither end ever walks records to recover. One commit may count up to 511 records.
//! - **Queue** (`queue/ends.rs`). A robust lock at each end; the head of the line sleeps holding it. Close is one step
//!   on the word that every commit exchanges.
//! - **The pace of an end** (`primitive/native/pace.rs`). A look at the other end takes the line on which it commits.
//!   So an end of a ring that finds little at each look waits for a moment before the next, as long as it finds more
//!   so.
//! - **Peers of a queue** (`queue/peers.rs`). Who registers holds a slot, and is counted when it does. The head of the
//!   other end's line sleeps on one slot that is held; they have all gone if all slots were free while nobody came.
//! - **Connection** (`pipe/end.rs`). A pair of packet sockets. An end belongs to the process that uses it first, which
//!   greets the other end with its pidfd before it writes its signature into shared memory: so copies that other
//!   children have of the descriptor keep nobody waiting.
//! - **wait_any** (`sync/any.rs`). Words by futex_waitv, descriptors by ppoll, both at once by io_uring. Whoever
//!   changes a word wakes all its sleepers, so that one who waits for several things takes nobody's wake.
//! - **Claim** (`queue/claim.rs`). Whoever holds an end of a channel links that end's word, and the other end's holder
//!   sleeps on it: one word tells of commits, of a leaving and of a death. So a commit may be a plain store: who dies
//!   before he rings is rung for. The fence that a store needs before the look at the word is the sleeper's,
//!   membarrier(2); while there is much sleep, commits fence themselves.
//! - **Channel** (`queue/lane.rs`). {count, position} of each end in one word, moved by one store. Records lie in one
//!   piece: behind the buffer there is as much again for what begins before its end. What the other end wrote is
//!   bounded before it is used.
//! - **JoinableQueue** (`queue/tasks.rs`, `queue/lease.rs`). An item that is taken lies in a place whose robust word
//!   its taker holds: the taker's end gives it back. It lies there before the head moves, with its ticket; whoever
//!   inherits the receiving end makes it void if the head has not moved. Finishing is one step, which counts the item
//!   in its place and wakes who sleeps on it. Receivers that sleep watch the words of all places that are held.
//! - **Process** (`process/`). Fork by libc with signals blocked; the child waits at a gate until its parent has the
//!   pidfd; its value and its panic come home in a memfd, which is the next child's when it has been read.
//! - **Handles** (`region/luggage.rs`). A handle that is serialised is a number in a table that only handles make; the
//!   table and the regions' descriptors go beside the message. It means nothing elsewhere.
//! - **Spawn** (`process/reexec.rs`). fork and exec of this program's own file; the order, a memfd, and what it names
//!   stay open, and nothing else. `init` in `main` follows it. Who has not called it starts nothing.
//! - **Fork server** (`process/server.rs`). It forks with CLONE_PARENT: the child is the asker's own, with a true
//!   status and a true parent to watch, and the server's death is nobody's. The kernel writes the child's number into
//!   a shared word in the call that forks, so after that death it is certain whether there is a child.
//! - **Supervisor** (`process/supervisor.rs`). It shares nothing and has no word: ends come by pidfds, SIGTERM and
//!   SIGINT by a signalfd, and both are waited for at once. It may die anywhere, since its children end with it. A
//!   second signal during a drain ends the grace.
//! - **Parent's end** (`process/watch.rs`). PR_SET_PDEATHSIG with SIGKILL where the main thread forked, whose end is
//!   the process's; where another thread did, with a signal whose handler asks getppid, since that thread may end
//!   first. Set before user code, and then checked against the number that the parent had before the fork.
//! - **Pool** (`pool/board.rs`, `pool/keeper.rs`). A task lies in a slot, whose word says how far it has come: a claim
//!   is one exchange that names the worker, a commit one swap. So a dead worker's task is found by looking, and its
//!   supervisor, which alone reaps it, decides about it, rings for it, and wakes the others. Queue and cursor are
//!   hints. Who waits for a task sets a bit in the word that the commit swaps: nobody rings for nobody. What is too
//!   long for a slot lies in a memfd (`pool/store.rs`), written through a mapping whose pages are asked for first.
//! - **Cancelling, and time limits** (`pool/keeper.rs`). A worker is stopped, looked at, and only then killed: so it
//!   dies for the task that was meant, and for no other.
//! - **Callbacks** (`pool/callback.rs`). Without a thread of their own they are called by threads that wait for the
//!   pool, which ask to be rung for the tasks of all callbacks; no lock is held meanwhile, and a panic is caught.
//! - **Children** (`process/here.rs`). A list of this process, behind a pointer tagged with the lineage: a forked copy
//!   makes its own and asks for no lock. A child stays on it until its end was read, which every start, drop and look
//!   does for whoever has ended; so no handle that is held, or forgotten, is a zombie for long.
//!
//! # Crash points
//! | point                         | what a death leaves                            | who puts it right                    |
//! |-------------------------------|------------------------------------------------|--------------------------------------|
//! | `lock.pending`                | nothing taken                                  | the kernel wakes one if it is free   |
//! | `lock.taken`, `lock.unlinked` | our TID, named by the pending slot             | the kernel marks it                  |
//! | `lock.held`                   | our TID, linked                                | the kernel marks it                  |
//! | `lock.freed`                  | free, pending                                  | the kernel wakes one, for nothing    |
//! | `lock.unrung`                 | free with WAITERS, pending                     | the kernel wakes one                 |
//! | `rlock.unsigned`, `rlock.signed_off` | a hold without a signature, at any depth | the kernel marks it; the heir signs |
//! | `once.running`                | the initialiser half run                       | the next runs it anew                |
//! | `once.done`                   | done, and the lock held by the dead            | the kernel marks it, for nothing     |
//! | `condition.announced`         | one too many counted                           | the end of the epoch                 |
//! | `condition.posted`            | a token, and nobody woken                      | the next who looks takes it          |
//! | `condition.ended`             | sleepers of an epoch that is over              | whoever sees `sweep` wakes them      |
//! | `condition.beside`            | a loner beside the dead, asleep on one word    | the next who comes tells it          |
//! | `condition.hinted`            | a wake spent on the dead, a free pending baton | the kernel wakes another             |
//! | `condition.chosen`, `condition.taken` | the baton held by the dead             | the kernel marks it, and wakes another |
//! | `condition.passed`            | a free pending baton                           | the kernel wakes another             |
//! | `event.announced`             | a sleeper's bit and no sleeper                 | the next clear takes it away         |
//! | `semaphore.heading`           | the line's lock held by the dead               | the kernel hands it to the next      |
//! | `semaphore.announced`         | a sleeper's bit and no sleeper                 | the next head clears it              |
//! | `semaphore.belled`            | the bell pending, and nothing given            | the head wakes for nothing           |
//! | `semaphore.unrung`            | permits that the head does not know of         | the kernel rings the bell            |
//! | `ledger.claimed`, `ledger.emptied` | a slot without a permit                   | the kernel marks it, the next claims it |
//! | `ledger.noted`                | a note of a move that was not made             | the guards in the word belie it      |
//! | `ledger.moved`                | a slot's note that is old                      | the next holder of the ledger        |
//! | `ledger.reclaiming`           | a dead one's slot, held by another dead        | the kernel marks it again            |
//! | `ledger.watching`             | WAITERS in a slot, and no sleeper              | its holder wakes nobody              |
//! | `barrier.claimed`             | a slot, marked                                 | whoever takes it next                |
//! | `barrier.arrived`             | one who has come and is dead                   | who watches it breaks the round      |
//! | `barrier.unrung`              | a round that is over, and sleepers             | the kernel wakes one, and it wakes all |
//! | `barrier.acting`              | a round that nobody will end                   | the kernel wakes one, which breaks it |
//! | `barrier.stamped`             | a broken barrier, half reset                   | the next reset                       |
//! | `slots.raised`                | a free slot that will be looked at             | nobody: it costs a look              |
//! | `rwlock.claimed`, `rwlock.let_in` | a slot, and the writers' lock, of the dead | the kernel gives them back          |
//! | `rwlock.shut`                 | a shut door, nothing changed                   | the next holder opens it             |
//! | `rwlock.changing`             | a shut door, some data new                     | the next holder opens it, all are told |
//! | `rwlock.opened`               | an open door, the writers' lock of the dead    | the kernel hands it to the next      |
//! | `value.staged`                | half a spare copy                              | the next writer writes it anew       |
//! | `array.changing`              | some elements new, the note `OwnerDied`        | the next holder is told              |
//! | `bell.set`                    | a sleeper's bit and no sleeper                 | the next commit clears it            |
//! | `ring.written`, `ring.staged` | a record beyond the last commit                | the next producer overwrites it      |
//! | `ring.copied`                 | a copy in a dead process                       | the next consumer takes the record   |
//! | `ring.taken`                  | a message that died with its receiver          | nobody: at most once                 |
//! | `claim.pending`               | nothing taken                                  | the kernel wakes one if it is free   |
//! | `claim.taken`, `claim.unlinked` | our TID, named by the pending slot           | the kernel marks it                  |
//! | `claim.held`                  | our TID, linked                                | the kernel marks it: the other is told |
//! | `claim.announced`             | a sleeper's bit and no sleeper                 | the next commit or claim takes it away |
//! | `claim.unrung`                | a commit, and nobody woken                     | the kernel, by our end               |
//! | `claim.left`                  | a closed end, still held                       | the kernel, by our end               |
//! | `lane.written`                | records beyond the tail                        | the next sender overwrites them      |
//! | `lane.copied`                 | a copy in a dead process                       | the next receiver takes the record   |
//! | `lane.taken`                  | a message that died with its receiver          | nobody: at most once                 |
//! | `lease.pending`, `lease.freed` | a free place, pending                        | the kernel wakes one, for nothing    |
//! | `lease.claimed`, `lease.unlinked` | our TID, named by the pending slot        | the kernel marks it: given back      |
//! | `lease.awaited`, `task.joining` | a joiner's bit and no joiner                | the next change clears it            |
//! | `task.copied`                 | a place that is held and empty                 | the kernel frees it                  |
//! | `task.written`                | an item in a place and in the ring             | the next receiver makes it void      |
//! | `task.taken`                  | an item in a place, not yet confirmed          | the next receiver confirms it        |
//! | `task.finished`, `task.buried` | an item that is counted as finished           | the kernel frees its place           |
//! | `task.opened`                 | a copy of a dead letter in a dead process      | the next reader takes it             |
//! | `gate.shut`                   | a parent that never opened its gate             | the child sees the lock's owner dead, and ends |
//! | `gate.opened`                 | an opened gate, and a lock held by the dead     | the child goes on: the number decides |
//! | `peers.claimed`               | a slot that is held and not counted            | the kernel frees it                  |
//! | `peers.entered`               | a counted slot of the dead                     | the kernel frees it, and wakes who watches |
//! | `peers.watched`               | WAITERS in a slot, and no sleeper              | its holder wakes nobody              |
//! | `pipe.greeted`                | a greeting of the dead, an end that is nobody's | the other end forgets it            |
//! | `pipe.owned`                  | an end of the dead                             | the other end has the pidfd          |
//! | `pipe.looked`                 | a copy of a message in a dead process          | nobody: its end has gone             |
//! | `pool.looked`                 | tasks that the cursor has passed               | whoever is idle looks everywhere     |
//! | `pool.taken`, `pool.written`  | a task TAKEN by the dead                       | its supervisor settles it            |
//! | `pool.committed`              | a settled task, and nobody rung for            | its supervisor rings                 |
//! | `pool.resting`                | a sleeper's bit of the dead                    | its supervisor takes it away         |
//! | `pool.woken`                  | a wake spent on the dead                       | its supervisor wakes the others      |
//! | `server.asked`                | a request, and no child                         | the asker sends it to another server  |
//! | `server.born`                 | a child, and no answer                          | the asker finds its number in the word |
//! | `ends.sending`, `ends.receiving`, `ends.waiting` | an end's lock held by the dead | the kernel hands it to the next      |
//!
//! # Where this differs from the sketches it grew from, and why
//! - The bump pointer of a region stands in shared memory and moves by an exchange, so that a forked child may go on in
//!   the arena it inherited: no two processes are given the same bytes.
//! - Numbers that need no lock are a type of their own, [`Atomic`](crate::Atomic): in a `Value` a lock-free addition
//!   could be overwritten by a guard that commits.
//! - [`Value`](crate::Value)'s guard works on a private copy and commits on drop, so a death in `lock()` tears no more
//!   than one in `update()`.
//! - The ring stores the next place before the commit, keyed by the count that the commit will show. The sketch stored
//!   it after, and had its heir walk the records: on the consumer's side those may be overwritten by then.
//! - A bell beside a word is queued *before* the word is compared, not after it: futex_waitv takes its words one after
//!   the other, and a giver can commit and die between two of them.
//! - A joiner sleeps on one unfinished item, in the word whose change finishes it, and not on a bell of its own: a bell
//!   that the kernel rings for a dead finisher changes no word, so a joiner on its way to sleep would miss it.
//! - A wait for words and descriptors is one of io_uring, and no eventfd is rung by those who commit: the commit and
//!   the ring would be two steps, and a death between them a lost wake.
//! - A pipe is a socket and not a ring: it must be a descriptor, the kernel alone knows who has copies of it, and
//!   packets are never torn. Where nobody sleeps, a channel does without system calls.
//! - A commit wakes all who sleep on its doorbell, which is the head of the line and whoever waits for several things.
//! - A channel's records are not padded to the end of its ring, where a long one might never fit: the buffer is as long
//!   again instead. And its bell is no half of the word that commits: the claim, which tells of deaths, is bell enough.
//! - Closed is a bit of the tail's doorbell, not a word beside it: no exchange can commit after it. Only a sender that
//!   waits for room sleeps on two words.
//! - A pool has no lane for each worker: slots that any worker may take need no dispatcher, and a dead worker's are
//!   found by its name in them. Arguments and results beyond a slot's own bytes lie in a sparse memfd, at the slot's
//!   place, so nothing is allocated that a death could leak.
//! - A fork server's children are children of who asked, by a clone that libc does not offer; the sketch had it pass on
//!   statuses, which its death would lose, and its children would have needed a second watch.
//!
//! # Proofs
//! | command       | shows                                                                                            |
//! |---------------|--------------------------------------------------------------------------------------------------|
//! | `cargo test`  | what the API says, with really forked children, each test in a process of its own                |
//! | `cargo loom`  | every order of a few threads within the bound, with deaths at every shared access, and mutants   |
//! | `cargo shuttle` | some orders of the same models and of crowds of eight, by random and PCT schedulers, deaths included |
//! | `cargo crash` | a kill after every instruction of every operation in every company; two deaths; mutants          |
//! | `cargo storm` | random kills under load against the same objects: counts of lost, doubled, torn, stalled         |
//! | `cargo lives` | 10,000 children beside a thief, without SIGCHLD, in trees, beside busy threads: counts of what is left |
//!
//! Processes are killed at every system call (`tests/start_deaths.rs`: child, parent and server, under each start
//! method), and a starting parent after every instruction too. For the others the calls are enough: what a process
//! changes in its own memory dies with it, so between two calls nobody can tell one instruction from the next, but for
//! stores to shared words. Of these there are, in a start, the gate's lock, which is a lock; `opened`, one store; and
//! `newborn`, which the asker stores before it asks and the kernel within the call that forks. A record is written by
//! calls alone, its header by one of 32 bytes in one page, which the kernel copies before it looks for a kill.
//!
//! Which rows and models belong to which public operation is listed in `tests/covered.txt`, and `cargo test` compares
//! the list with the sources: an operation without a proof fails. The harness itself is the module `testing`, for
//! structures of one's own; `tests/testing/` shows that it finds what is wrong.
//!
//! A mutant is a known fault put back in (`primitive/mutant.rs`); a proof that does not catch its mutants proves
//! nothing. What the models do not show: timeouts never fire, accesses are at most acquire and release, the modelled
//! futex orders more than the kernel's, and robust links are real pointers natively only. What the exact kill does not
//! show: weak memory, and what happens inside one system call.
//!
//! # Steps and their mutants
//! Each step that a proof is to miss, by the function that takes it; the fault that stands for it (what it does is told
//! in `primitive/mutant.rs`); and what a test asserts it to be caught by. What weakens an ordering only loom can show.
//!
//! | step | mutant | caught by |
//! |------|--------|-----------|
//! | `board::bury` | DeadKeepTasks | loom, shuttle, crash |
//! | `board::bury` | DeathUnrung | loom, shuttle, crash |
//! | `board::bury` | DeathKeepsWake | loom, shuttle |
//! | `board::claim` | TakenByStore | loom, shuttle |
//! | `board::commit` | RelaxedResult | loom |
//! | `board::commit` | ResultUnrung | loom, shuttle |
//! | `board::order` | OrderUnfenced | loom |
//! | `board::order` | OrderUntold | loom, shuttle |
//! | `board::publish` | TaskUntold | loom, shuttle, crash |
//! | `board::publish` | GiverUnfenced | loom |
//! | `board::rest` | LooksBeforeItRests | loom, shuttle |
//! | `board::rest` | RestUnfenced | loom |
//! | `claim::announce` | SleeperUnfenced | loom |
//! | `claim::claim` | ClaimUntold | loom, shuttle |
//! | `claim::give_back` | LeaveUntold | loom, shuttle, crash |
//! | `claim::ring` | CommitUnrung | loom, shuttle, crash |
//! | `claim::ring` | CarefulUnfenced | loom |
//! | `claim::ring_if_waited` | CommitterUnfenced | loom |
//! | `claim::wake` | RingThenWake | loom, shuttle |
//! | `claim::watch` | NoLastLook | loom, shuttle |
//! | `claim::watch` | LeftUnseen | loom, shuttle, crash |
//! | `condition::announce`, `condition::hint`, `condition::notify` | SweepLeftUndone | loom, shuttle, crash |
//! | `condition::disturb_loner` | LonerNotDisturbed | loom, shuttle |
//! | `condition::has_token_for` | LateWaiterTakes | loom, shuttle |
//! | `condition::notify` | NotifiedAsleep | loom, shuttle |
//! | `condition::pass_baton` | BatonNotPassed | loom, shuttle |
//! | `condition::stand_in_line` | ListenerNotPending | loom, shuttle, crash |
//! | `condition::stand_in_line`, `wait::wait_until` | BatonNotHeld | crash |
//! | `condition::stand_in_line` | BatonNotComparedAgain | loom, shuttle |
//! | `condition::sweep` | SweepWakesOne | loom, shuttle |
//! | `doorbell::close` | CloseUntold | loom, shuttle |
//! | `doorbell::commit`, `doorbell::commit_and_wake` | CommitThenWake | loom, shuttle, crash |
//! | `doorbell::commit`, `doorbell::commit_and_wake`, `doorbell::sleep` | BellBeside | loom, shuttle, crash |
//! | `doorbell::commit` | PendingOnCount | crash |
//! | `doorbell::commit`, `lane::commit`, `value::store` | RelaxedCommit | loom |
//! | `doorbell::commit_and_wake` | CommitWakesOne | loom, shuttle, crash |
//! | `doorbell::sleep` | TrustSleeperBit | loom, shuttle, crash |
//! | `doorbell::sleep` | CloseBesideSleeper | loom, shuttle, crash |
//! | `end::claim_slowly` | PipeUngreeted | crash |
//! | `end::drop` | PipeClosedQuietly | crash |
//! | `end::wait` | PipeOwnerUnwatched | crash |
//! | `ends::pull` | GoneAtOnce | loom, shuttle |
//! | `ends::take_oldest` | ClosedAtOnce | loom, shuttle, crash |
//! | `event::clear` | ClearKeepsGeneration | loom, shuttle, crash |
//! | `event::set_and_wake` | SetThenWake | loom, shuttle, crash |
//! | `event::set_and_wake` | SetWakesOne | loom, shuttle, crash |
//! | `event::watch` | PulseForgotten | loom, shuttle |
//! | `gate::open` | GateFreedUnopened | crash |
//! | `lane::wait` | DrainedBeforeJudged | loom, shuttle, crash |
//! | `lease::finish`, `lease::finish_awaited` | FinishThenWake | loom, shuttle, crash |
//! | `lease::finish_awaited` | FinishWakesOne | loom, shuttle, crash |
//! | `lease::release_watched` | LeaseFreedThenWake | loom, shuttle, crash |
//! | `lease::watch` | WatchWithoutWaiters | loom, shuttle, crash |
//! | `ledger::release_guard` | SlotBeforePermit | loom, shuttle, crash |
//! | `ledger::settle`, `ledger::transfer` | HeirSettlesNothing | loom, shuttle, crash |
//! | `ledger::transfer` | NotedAfterwards | loom, shuttle, crash |
//! | `mapping::drop` | UnmapHeldLock | crash |
//! | `once::call` | DoneBeforeDone | loom, shuttle, crash |
//! | `once::call` | RelaxedDone | loom |
//! | `peers::enter` | EntryUntold | loom, shuttle, crash |
//! | `peers::search` | PeersCountedOnce | loom, shuttle |
//! | `peers::search` | PeersUnfenced | loom |
//! | `peers::watch` | PeersUnwatched | loom, shuttle, crash |
//! | `raw_barrier::arrive` | PartyNotPending | loom, shuttle, crash |
//! | `raw_barrier::arrive` | RelaxedArrival | loom |
//! | `raw_barrier::arrive` | CrowdForgotten | loom, shuttle |
//! | `raw_barrier::change` | RoundWakesOne | loom, shuttle, crash |
//! | `raw_barrier::end_round` | LastLooksAway | loom, shuttle, crash |
//! | `raw_barrier::end_round` | LeaderLeavesEarly | loom, shuttle |
//! | `raw_barrier::finish_reset` | ResetUntold | loom, shuttle |
//! | `raw_barrier::sleep` | SleepUnguarded | loom, shuttle |
//! | `raw_barrier::sleep` | BellNotPassedOn | crash |
//! | `raw_lock::claim`, `raw_rwlock::read_at_once` | RelaxedClaim | loom |
//! | `raw_lock::free_and_wake` | DropWaiters | loom, shuttle, crash |
//! | `raw_lock::free_and_wake` | LastReleaseWakesOne | crash |
//! | `raw_lock::free_and_wake` | ReleaseThenWake | loom, shuttle, crash |
//! | `raw_lock::freed`, `raw_lock::unlock_quietly`, `raw_lock::unlock_rest` | ReleaseBeforeUnlink | crash |
//! | `raw_lock::lock_contended` | HeirForgetsWaiters | loom, shuttle, crash |
//! | `raw_lock::lock_contended` | WaiterNotPending | loom, shuttle, crash |
//! | `raw_lock::lock_contended` | LeaverKeepsWake | loom, shuttle, crash |
//! | `raw_lock::lock_contended` | SleeperUnannounced | loom, shuttle |
//! | `raw_lock::outlast_holder` | WriterUnannounced | loom, shuttle, crash |
//! | `raw_lock::suspect` | DeathUntold | loom, shuttle |
//! | `raw_lock::unlock_quietly` | RelaxedUnlock | loom |
//! | `raw_lock::wake_latecomer` | LatecomerAsleep | loom, shuttle |
//! | `raw_rwlock::end_write` | FreeBeforeOpen | loom, shuttle |
//! | `raw_rwlock::is_open_before_sleep` | LineUnfenced | loom |
//! | `raw_rwlock::read_at_once` | WriterUnseen | loom, shuttle |
//! | `raw_rwlock::rouse_line` | LineStaysAsleep | loom, shuttle, crash |
//! | `raw_rwlock::shut_and_wait` | SlotsBeforeShut | loom, shuttle |
//! | `raw_rwlock::shut_and_wait` | ChangeUnnoted | loom, shuttle, crash |
//! | `raw_semaphore::give_to_sleeper` | BellNotPending | loom, shuttle, crash |
//! | `raw_semaphore::give_to_sleeper` | GiveWithoutWake | loom, shuttle, crash |
//! | `raw_semaphore::less` | NewcomerPasses | loom, shuttle, crash |
//! | `raw_semaphore::release` | RelaxedRelease | loom |
//! | `raw_semaphore::sleep` | WordBeforeBell | loom, shuttle |
//! | `raw_semaphore::sleep` | HeadTrustsSleeper | loom, shuttle, crash |
//! | `raw_semaphore::sleep` | HoldersUnwatched | loom, shuttle, crash |
//! | `ring::first_that_fit` | BatchPieceByPiece | loom, shuttle, crash |
//! | `ring::stage` | PositionBeforeCommit | loom, shuttle, crash |
//! | `ring::take_many` | MarkEmptyBeforeCommit | loom, shuttle, crash |
//! | `rlock::leave` | InnerGuardFrees | loom, shuttle |
//! | `rlock::take` | HeirKeepsDepth | loom, shuttle, crash |
//! | `sending::send` | CommitBeforeRecord | loom, shuttle, crash |
//! | `tasks::set_taking` | TakingNotTold | loom, shuttle, crash |
//! | `tasks::settle` | LeaseNotVoided | loom, shuttle, crash |
//! | `tasks::sleep` | TakersUnwatched | loom, shuttle, crash |
//! | `tasks::take_record` | LeaseAfterHead | loom, shuttle, crash |
//! | `value::load` | ReaderUnfenced | loom |
//! | `value::store` | VersionBeforeBytes | loom, shuttle, crash |
//! | `value::store` | WriterUnfenced | loom |
//! | `wait::wait_until` | TokenBeforeLock | crash |
//! | `wait::wait_until` | AnnounceAfterLeaving | loom, shuttle |
//!
//! Fences and wakes without a mutant:
//!
//! | step | why |
//! |------|-----|
//! | `board::nudge` | it retires a worker that has no task; the pool's tests wait for it |
//! | `board::ring`, `board::wake_one`, `raw_lock::rouse` | the calls of them are mutated |
//! | `claim::leave` | as `claim::give_back`, for an end that another thread holds |
//! | `lock::intend_change`, `lock::changes_are_whole` | for the compiler's order inside one thread |
//! | `raw_barrier::waiting` | a number to look at: no step follows from it |
//! | `raw_barrier::arrive`, `raw_barrier::wait_for_slot` | the fences: no model that was tried fails without them |
//! | `raw_lock::unlock_and_ring` | the wake: no model that was tried fails without it |
//! | `condition::notify`, `condition::pass_baton` | the fences: no model that was tried fails without them |
//! | `raw_rwlock::drop` | a courtesy between writers, which ends by itself |
//!
//! # Kernel floor
//! | need                                        | since                     | without it                            |
//! |---------------------------------------------|---------------------------|---------------------------------------|
//! | robust lists, FUTEX_WAKE_OP                 | 2.6                       | nothing works                         |
//! | pidfd_open, waitid on a pidfd               | 5.3, 5.4                  | no processes                          |
//! | futex_waitv                                 | 5.16                      | no waiting for room in a queue        |
//! | a wake for a pending word with owner 0      | 6.2, backported; probed   | waits are cut into slices of 100 ms   |
//! | futex waits of io_uring, allowed            | 6.7                       | no wait for words and descriptors at once |
//! | membarrier, GLOBAL_EXPEDITED                | 4.16                      | channels fence at each commit         |
//! | PIDFD_GET_INFO with the exit status         | 6.15                      | the record that the child left        |
//! | PR_GET_TID_ADDRESS (glibc)                  | 3.5, configured           | no fork server                        |
