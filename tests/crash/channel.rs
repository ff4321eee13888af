//! `channel()`: its operations, and the companies in which they are killed.
//!
//! Every victim dies in the end, so whoever is at the other end, and waits without a limit, must be told by then: by
//! what the victim committed, or by its death. And what a victim has *done* must be heard before it dies: a [`witness`]
//! sees to that. Letters are numbered, and each must be accounted for: received once and whole, or never accepted, or
//! taken along by the receiver that died.

#![allow(clippy::disallowed_types, reason = "the harness looks from outside the seam")]

use std::{cell::RefCell, rc::Rc, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use pshared::{
    Bytes, Channel, ClaimError, Codec, PlainData, Receiver, Sender, TryRecvError, wait_any, wait_any_timeout,
};

use crate::{
    board::{cell, count, up},
    company::{Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause},
    scenario::{Damage, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// Letters have numbers below this.
const NUMBERS: usize = 64;
/// The letters of the victim, of the heir, and of whoever else sends.
const VICTIMS: u32 = 20;
const HEIRS: u32 = 30;
const PEERS: u32 = 40;
const AUDITORS: u32 = 55;
/// Letters in a batch; and as many fit.
const BATCH: u32 = 4;
/// The buffer, in bytes.
const BUFFER: usize = 64;

// What is on the board: two tallies of `NUMBERS` cells, then these.
const ACCEPTED: usize = 0;
const RECEIVED: usize = NUMBERS;
const TORN: usize = 2 * NUMBERS;
/// Letters that came after a later one.
const DISORDER: usize = TORN + 1;
/// How many were told at one end that the other is gone.
const TOLD_GONE: usize = TORN + 2;
/// What the auditor found left, and what did not fit any more.
const LEFT: usize = TORN + 3;
const SHRUNK: usize = TORN + 4;
/// The victim came to know what its operation did.
const KNOWS: usize = TORN + 5;
/// The same of the heir.
const HEIR_KNOWS: usize = TORN + 6;

/// How letters are carried: as byte strings behind headers, or as plain data without. As many of them fit.
trait Carries: Codec<Self::Letter> + Sized + 'static {
    type Letter: Clone + AsRef<[u8]>;

    fn ends() -> (Sender<Self::Letter, Self>, Receiver<Self::Letter, Self>);
    fn letter(number: u32) -> Self::Letter;

    /// Sends in place, where that is possible; whether it did.
    fn send_in_place(sender: &mut Sender<Self::Letter, Self>, letter: &Self::Letter) -> bool;
    /// Receives likewise.
    fn recv_in_place(receiver: &mut Receiver<Self::Letter, Self>) -> Option<Vec<u8>>;
}

impl Carries for Bytes {
    type Letter = Vec<u8>;

    fn ends() -> (Sender<Vec<u8>, Bytes>, Receiver<Vec<u8>, Bytes>) {
        Channel::new(BUFFER).bytes().expect("a channel")
    }

    fn letter(number: u32) -> Vec<u8> {
        text(number).to_vec()
    }

    fn send_in_place(sender: &mut Sender<Vec<u8>, Bytes>, letter: &Vec<u8>) -> bool {
        sender.reserve(letter.len()).is_ok_and(|mut slot| {
            slot.copy_from_slice(letter);
            slot.commit().is_ok()
        })
    }

    fn recv_in_place(receiver: &mut Receiver<Vec<u8>, Bytes>) -> Option<Vec<u8>> {
        receiver.read().map(|message| message.to_vec()).ok()
    }
}

impl Carries for PlainData {
    type Letter = [u8; 16];

    fn ends() -> (Sender<[u8; 16], PlainData>, Receiver<[u8; 16], PlainData>) {
        Channel::new(BUFFER).plain().expect("a channel")
    }

    fn letter(number: u32) -> [u8; 16] {
        std::array::from_fn(|at| text(number)[at % 8])
    }

    fn send_in_place(sender: &mut Sender<[u8; 16], PlainData>, letter: &[u8; 16]) -> bool {
        sender.send(*letter).is_ok()
    }

    fn recv_in_place(receiver: &mut Receiver<[u8; 16], PlainData>) -> Option<Vec<u8>> {
        receiver.recv().map(|letter| letter.to_vec()).ok()
    }
}

type Tx<C> = Sender<<C as Carries>::Letter, C>;
type Rx<C> = Receiver<<C as Carries>::Letter, C>;

/// Both ends, as each process of a trial has them.
struct Post<C: Carries> {
    ends: Rc<RefCell<(Tx<C>, Rx<C>)>>,
    scratch: Rc<RefCell<(Tx<C>, Rx<C>)>>,
}

impl<C: Carries> Clone for Post<C> {
    fn clone(&self) -> Post<C> {
        Post { ends: Rc::clone(&self.ends), scratch: Rc::clone(&self.scratch) }
    }
}

impl<C: Carries> Post<C> {
    fn new() -> Post<C> {
        let ends = || Rc::new(RefCell::new(C::ends()));
        Post { ends: ends(), scratch: ends() }
    }

    fn sender<R>(&self, act: impl FnOnce(&mut Tx<C>) -> R) -> R {
        act(&mut self.ends.borrow_mut().0)
    }

    fn receiver<R>(&self, act: impl FnOnce(&mut Rx<C>) -> R) -> R {
        act(&mut self.ends.borrow_mut().1)
    }

    fn warm(&self) {
        let (sender, receiver) = &mut *self.scratch.borrow_mut();
        let moment = Duration::from_micros(50);
        for _ in 0..2 {
            sender.claim().expect("nobody has it");
            sender.send(C::letter(0)).expect("room");
            receiver.recv().expect("a letter");
            sender.send_many(&mut vec![C::letter(0); BATCH as usize]).expect("room");
            let _ = sender.send_timeout(C::letter(0), moment);
            let _ = receiver.recv_many(&mut Vec::new(), 9);
            let _ = receiver.recv_timeout(moment);
            let _ = receiver.try_recv();
            let _ = wait_any_timeout(&[&*receiver], moment);
            assert!(C::send_in_place(sender, &C::letter(0)));
            C::recv_in_place(receiver).expect("a letter");
            sender.release().expect("ours");
            receiver.release().expect("ours");
        }
    }
}

/// What stands in a letter, once or again and again.
fn text(number: u32) -> [u8; 8] {
    (u64::from(!number) << 32 | u64::from(number)).to_ne_bytes()
}

/// Notes a letter, or what was none.
fn note(bytes: &[u8]) {
    let number = <[u8; 4]>::try_from(bytes.get(..4).unwrap_or_default()).map_or(u32::MAX, u32::from_ne_bytes);
    if (number as usize) < NUMBERS && bytes.chunks(8).all(|part| part == text(number)) {
        up(RECEIVED + number as usize);
    } else {
        up(TORN);
    }
}

/// Where an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Sending,
    Receiving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Send,
    TrySend,
    SendTimeout(u64),
    SendMany,
    Reserve,
    CloseSender,
    ClaimSender,
    Recv,
    TryRecv,
    RecvTimeout(u64),
    RecvMany,
    Read,
    Choose,
    CloseReceiver,
    ClaimReceiver,
}

use Deed::*;

impl Deed {
    fn end(self) -> End {
        match self {
            Send | TrySend | SendTimeout(_) | SendMany | Reserve | CloseSender | ClaimSender => End::Sending,
            Recv | TryRecv | RecvTimeout(_) | RecvMany | Read | Choose | CloseReceiver | ClaimReceiver => {
                End::Receiving
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Send => "Sender::send",
            TrySend => "Sender::try_send",
            SendTimeout(_) => "Sender::send_timeout",
            SendMany => "Sender::send_many",
            Reserve => "Sender::reserve, commit",
            CloseSender => "Sender::close",
            ClaimSender => "Sender::claim, release",
            Recv => "Receiver::recv",
            TryRecv => "Receiver::try_recv",
            RecvTimeout(_) => "Receiver::recv_timeout",
            RecvMany => "Receiver::recv_many",
            Read => "Receiver::read, drop",
            Choose => "wait_any of a channel, Receiver::try_recv",
            CloseReceiver => "Receiver::close",
            ClaimReceiver => "Receiver::claim, release",
        }
    }

    /// How many letters it may take along when it is killed.
    fn takes(self) -> u64 {
        match self {
            Recv | TryRecv | RecvTimeout(_) | Read | Choose => 1,
            RecvMany => u64::from(BATCH),
            _ => 0,
        }
    }

    /// Calls `stepped` once.
    fn act<C: Carries>(self, post: &Post<C>, first: u32, knows: usize, claimed: bool) {
        post.warm();
        let (sender, receiver) = &mut *post.ends.borrow_mut();
        if claimed {
            let _ = if self.end() == End::Sending { sender.claim() } else { receiver.claim() };
        }
        let accepted = |sent: bool| {
            cell(ACCEPTED + first as usize).store(u64::from(sent), SeqCst);
            cell(knows).store(1, SeqCst);
        };
        let got = |received: Result<C::Letter, bool>| {
            match received {
                Ok(letter) => note(letter.as_ref()),
                Err(gone) => cell(TOLD_GONE).store(u64::from(gone), SeqCst),
            }
            cell(knows).store(1, SeqCst);
        };
        let text = C::letter(first);
        let mut batch: Vec<C::Letter> = (first..first + BATCH).map(C::letter).collect();
        let mut into = Vec::with_capacity(9);
        let ms = Duration::from_millis;
        match self {
            Send => stepped(|| accepted(sender.send(text).is_ok())),
            TrySend => stepped(|| accepted(sender.try_send(text).is_ok())),
            SendTimeout(limit) => stepped(|| accepted(sender.send_timeout(text, ms(limit)).is_ok())),
            SendMany => stepped(|| {
                let sent =
                    sender.send_many(&mut batch).map_or_else(|error| error.sent(), |()| BATCH as usize);
                (first as usize..first as usize + sent).for_each(|number| up(ACCEPTED + number));
                cell(knows).store(1, SeqCst);
            }),
            Reserve => stepped(|| accepted(C::send_in_place(sender, &text))),
            CloseSender => stepped(|| accepted(sender.close().is_err())),
            ClaimSender => stepped(|| {
                let done = sender.claim().is_ok() && sender.release().is_ok();
                cell(knows).store(u64::from(done), SeqCst);
            }),
            Recv => stepped(|| got(receiver.recv().map_err(|_| true))),
            TryRecv => stepped(|| got(receiver.try_recv().map_err(|e| e == TryRecvError::Disconnected))),
            RecvTimeout(limit) => stepped(|| {
                let received = receiver.recv_timeout(ms(limit));
                got(received.map_err(|error| error != pshared::RecvTimeoutError::TimedOut));
            }),
            RecvMany => stepped(|| {
                let gone = receiver.recv_many(&mut into, BATCH as usize).is_err();
                into.iter().for_each(|letter| note(letter.as_ref()));
                cell(TOLD_GONE).store(u64::from(gone), SeqCst);
                cell(knows).store(1, SeqCst);
            }),
            Read => stepped(|| {
                match C::recv_in_place(receiver) {
                    Some(bytes) => note(&bytes),
                    None => cell(TOLD_GONE).store(1, SeqCst),
                }
                cell(knows).store(1, SeqCst);
            }),
            Choose => stepped(|| got(choose(receiver).map_err(|e| e == TryRecvError::Disconnected))),
            CloseReceiver => stepped(|| {
                let _ = receiver.close();
                cell(knows).store(1, SeqCst);
            }),
            ClaimReceiver => stepped(|| {
                let done = receiver.claim().is_ok() && receiver.release().is_ok();
                cell(knows).store(u64::from(done), SeqCst);
            }),
        }
    }
}

/// Waits for any of one, and receives what there is.
fn choose<C: Carries>(receiver: &mut Rx<C>) -> Result<C::Letter, TryRecvError> {
    assert_eq!(wait_any(&[&*receiver]).expect("this kernel can wait so"), [0]);
    receiver.try_recv()
}

// The companions.

/// Does the other end's part until it is told that the victim is gone: sleeps whenever it must.
fn peer<C: Carries>(post: &Post<C>, at: End, moment: Moment, until: crate::company::Until) -> Companion {
    let post = post.clone();
    Companion::new("peer", [(moment, until)], move || match at {
        End::Receiving => post.receiver(|receiver| {
            let mut last = 0;
            while let Ok(letter) = receiver.recv() {
                let bytes = letter.as_ref();
                note(bytes);
                if bytes[0] < last {
                    up(DISORDER);
                }
                last = bytes[0];
            }
            up(TOLD_GONE);
            // Not his death, but his end.
            receiver.release().expect("ours");
        }),
        End::Sending => post.sender(|sender| {
            for number in PEERS..PEERS + 12 {
                if sender.send(C::letter(number)).is_err() {
                    break;
                }
                up(ACCEPTED + number as usize);
            }
            // The victim may live still: it must find him there.
            while !sender.is_disconnected() {
                thread::sleep(Duration::from_micros(50));
            }
            sender.release().expect("ours");
        }),
    })
}

/// The same at the receiving end, by `wait_any`.
fn chooser<C: Carries>(post: &Post<C>) -> Companion {
    let post = post.clone();
    Companion::new("chooser", [(Ready, Asleep)], move || {
        post.receiver(|receiver| {
            receiver.claim().expect("nobody has it");
            while let Ok(letter) = choose(receiver) {
                note(letter.as_ref());
            }
            up(TOLD_GONE);
            receiver.release().expect("ours");
        });
    })
}

/// Sees that what the victim did, if it was done, is heard while the victim lives.
fn witness(deed: Deed) -> Companion {
    Companion::new("witness", [(Stop, Ended)], move || {
        let heard = || match deed {
            Send | SendTimeout(_) | TrySend | Reserve => {
                count(ACCEPTED + VICTIMS as usize) == 0 || count(RECEIVED + VICTIMS as usize) > 0
            }
            SendMany => (VICTIMS..VICTIMS + BATCH)
                .all(|n| count(ACCEPTED + n as usize) == 0 || count(RECEIVED + n as usize) > 0),
            CloseSender => count(TOLD_GONE) > 0,
            // A letter more than fits is accepted when one was taken.
            Recv | RecvTimeout(_) | TryRecv | RecvMany | Read | Choose => {
                count(ACCEPTED + PEERS as usize) > 0
            }
            CloseReceiver | ClaimSender | ClaimReceiver => true,
        };
        while count(KNOWS) > 0 && !heard() {
            thread::sleep(Duration::from_micros(50));
        }
    })
}

/// Lets the sleeping victim go on.
fn waker<C: Carries>(post: &Post<C>, at: End) -> Companion {
    let post = post.clone();
    Companion::new("waker", [(Wake, Ended)], move || match at {
        End::Sending => post.sender(|sender| {
            sender.send(C::letter(PEERS)).expect("room");
            up(ACCEPTED + PEERS as usize);
            sender.release().expect("ours");
        }),
        End::Receiving => post.receiver(|receiver| {
            note(receiver.recv().expect("a letter").as_ref());
            receiver.release().expect("ours");
        }),
    })
}

/// Closes the other end while the victim stands at its kill point, or to wake it.
fn closer<C: Carries>(post: &Post<C>, at: End, moment: Moment) -> Companion {
    let post = post.clone();
    Companion::new("closer", [(moment, Ended)], move || match at {
        End::Sending => post.sender(|sender| sender.close().expect("nobody has it")),
        End::Receiving => post.receiver(|receiver| receiver.close().expect("nobody has it")),
    })
}

/// Claims the victim's end after its death, if it was not closed, and closes it: where the victim need not have come.
fn undertaker<C: Carries>(post: &Post<C>, at: End) -> Companion {
    let post = post.clone();
    Companion::new("undertaker", [(Opening, Paused), (Death, Nothing)], move || {
        pause();
        match at {
            End::Sending => post.sender(|sender| sender.close().expect("its holder is dead")),
            End::Receiving => post.receiver(|receiver| receiver.close().expect("its holder is dead")),
        }
    })
}

/// Somebody holds an end and is killed, or sleeps there and is killed.
fn dies<C: Carries>(post: &Post<C>, at: End, asleep: bool) {
    let mut victim = Process::fork(|| {
        match (at, asleep) {
            (End::Sending, false) => post.sender(|sender| sender.claim().expect("nobody has it")),
            (End::Receiving, false) => post.receiver(|receiver| receiver.claim().expect("nobody has it")),
            (End::Sending, true) => post.sender(|sender| drop(sender.send(C::letter(0)))),
            (End::Receiving, true) => post.receiver(|receiver| drop(receiver.recv())),
        }
        pause();
    });
    if asleep {
        assert!(victim.until_asleep(LIMIT), "he does not sleep");
    } else {
        assert!(victim.next_change(LIMIT).is_some(), "he does not come");
    }
    victim.kill();
}

fn fill<C: Carries>(post: &Post<C>, letters: u32) {
    let filling = || {
        post.sender(|sender| {
            for number in 1..=letters {
                sender.send(C::letter(number)).expect("room");
                up(ACCEPTED + number as usize);
            }
            sender.release().expect("ours");
        });
    };
    crate::company::run_to_end(filling);
}

/// One operation in one company.
struct Row<C: Carries> {
    company: &'static str,
    kind: Kind,
    deed: Deed,
    /// Letters that are there.
    letters: u32,
    before: fn(&Post<C>, End),
    enters: Enters,
    /// The victim has its end before it begins.
    claimed: bool,
    /// Around a victim at this end.
    companions: fn(&Post<C>, Deed) -> Vec<Companion>,
    /// What the heir, at the other end, does.
    heir: Option<Deed>,
}

impl<C: Carries> Clone for Row<C> {
    fn clone(&self) -> Row<C> {
        *self
    }
}

impl<C: Carries> Copy for Row<C> {}

fn other(deed: Deed) -> End {
    if deed.end() == End::Sending { End::Receiving } else { End::Sending }
}

fn row<C: Carries>(company: &'static str, deed: Deed, letters: u32) -> Row<C> {
    Row {
        company,
        kind: Kind::OneDeath,
        deed,
        letters,
        before: |_, _| (),
        enters: Enters::Awake,
        claimed: true,
        companions: |_, _| vec![],
        heir: None,
    }
}

fn asleep_opposite<C: Carries>(post: &Post<C>, deed: Deed) -> Vec<Companion> {
    vec![peer(post, other(deed), Ready, Asleep), witness(deed)]
}

fn comes_late<C: Carries>(post: &Post<C>, deed: Deed) -> Vec<Companion> {
    vec![peer(post, other(deed), Death, Nothing)]
}

fn asleep_and_undertaker<C: Carries>(post: &Post<C>, deed: Deed) -> Vec<Companion> {
    vec![undertaker(post, deed.end()), peer(post, other(deed), Ready, Asleep)]
}

fn rows<C: Carries>() -> Vec<Row<C>> {
    let mut rows = Vec::new();
    for (deed, none, full) in [
        (Send, 0, BATCH),
        (TrySend, 0, BATCH),
        (SendTimeout(60_000), 0, BATCH),
        (SendMany, 0, BATCH),
        (Reserve, 0, BATCH),
        (Recv, BATCH, 0),
        (TryRecv, BATCH, 0),
        (RecvTimeout(60_000), BATCH, 0),
        (RecvMany, BATCH, 0),
        (Read, BATCH, 0),
        (Choose, BATCH, 0),
    ] {
        // `none` is as free as can be for the victim, and `full` blocks it.
        rows.extend([
            row("alone", deed, none),
            Row { companions: comes_late, ..row("one comes late", deed, none) },
            Row { companions: asleep_opposite, ..row("sleeper opposite", deed, none) },
            Row {
                claimed: false,
                companions: asleep_and_undertaker,
                ..row("first use, sleeper opposite", deed, none)
            },
            Row {
                before: |post, own| dies(post, own, false),
                claimed: false,
                ..row("owner died before", deed, none)
            },
            Row {
                before: |post, own| {
                    dies(post, if own == End::Sending { End::Receiving } else { End::Sending }, true)
                },
                companions: asleep_opposite,
                ..row("a dead sleeper's bit, sleeper opposite", deed, none)
            },
        ]);
        if !matches!(deed, TrySend | TryRecv) {
            rows.extend([
                Row { companions: comes_late, ..row("blocked", deed, full) },
                Row {
                    companions: |post, deed| vec![closer(post, other(deed), Stop)],
                    ..row("blocked, closed at the kill point", deed, full)
                },
                Row {
                    before: |post, own| dies(post, own, true),
                    companions: comes_late,
                    ..row("blocked, a dead sleeper's bit", deed, full)
                },
                Row {
                    enters: Enters::Woken,
                    companions: |post, deed| {
                        vec![waker(post, other(deed)), peer(post, other(deed), Death, Nothing)]
                    },
                    ..row("woken", deed, full)
                },
                Row {
                    enters: Enters::Woken,
                    companions: |post, deed| vec![closer(post, other(deed), Wake)],
                    ..row("woken by closing", deed, full)
                },
            ]);
        }
        if matches!(deed, Send | SendMany | Reserve | Recv | RecvMany | Read | Choose) {
            let heir = Some(if deed.end() == End::Sending { Recv } else { Send });
            rows.extend([
                Row { kind: Kind::TwoDeaths, heir, ..row("heir asleep opposite", deed, none) },
                Row { kind: Kind::StoppedSleeper, heir, ..row("stopped sleeper opposite", deed, none) },
                Row {
                    kind: Kind::StoppedSleeper,
                    heir,
                    before: |post, own| {
                        dies(post, if own == End::Sending { End::Receiving } else { End::Sending }, true)
                    },
                    ..row("a dead sleeper's bit, stopped sleeper opposite", deed, none)
                },
            ]);
        }
    }
    for deed in [Send, SendMany, CloseSender] {
        let heir = Some(Choose);
        rows.extend([
            Row {
                companions: |post, deed| vec![chooser(post), witness(deed)],
                ..row("opposite one who sleeps in wait_any", deed, 0)
            },
            Row {
                kind: Kind::StoppedSleeper,
                heir,
                ..row("opposite one stopped on the way to wait_any", deed, 0)
            },
        ]);
    }
    for (deed, none) in [(CloseSender, 0), (CloseReceiver, BATCH)] {
        let heir = Some(if deed.end() == End::Sending { Recv } else { Send });
        rows.extend([
            row("alone", deed, 2),
            Row { companions: comes_late, ..row("one comes late", deed, 2) },
            Row { companions: asleep_opposite, ..row("sleeper opposite", deed, none) },
            Row {
                claimed: false,
                companions: asleep_and_undertaker,
                ..row("first use, sleeper opposite", deed, none)
            },
            Row { kind: Kind::TwoDeaths, heir, ..row("heir asleep opposite", deed, none) },
            Row { kind: Kind::StoppedSleeper, heir, ..row("stopped sleeper opposite", deed, none) },
            Row {
                kind: Kind::StoppedSleeper,
                heir,
                claimed: false,
                companions: |post, deed| vec![undertaker(post, deed.end())],
                ..row("first use, stopped sleeper opposite", deed, none)
            },
        ]);
    }
    for (deed, none) in [(ClaimSender, 0), (ClaimReceiver, BATCH)] {
        rows.extend([
            Row { claimed: false, ..row("alone", deed, none) },
            Row { claimed: false, companions: asleep_and_undertaker, ..row("sleeper opposite", deed, none) },
            Row {
                claimed: false,
                before: |post, own| dies(post, own, false),
                ..row("owner died before", deed, none)
            },
        ]);
    }
    rows.push(Row { companions: comes_late, ..row("too late", SendTimeout(15), BATCH) });
    rows.push(Row { companions: comes_late, ..row("too late", RecvTimeout(15), 0) });
    rows
}

/// Where there are no headers: what puts and what takes, in the companies that matter to it.
fn plain_rows() -> Vec<Row<PlainData>> {
    let mut rows = Vec::new();
    for (deed, none, full) in [(Send, 0, BATCH), (SendMany, 0, BATCH), (Recv, BATCH, 0), (RecvMany, BATCH, 0)]
    {
        let heir = Some(if deed.end() == End::Sending { Recv } else { Send });
        rows.extend([
            row("plain data, alone", deed, none),
            Row { companions: asleep_opposite, ..row("plain data, sleeper opposite", deed, none) },
            Row { companions: comes_late, ..row("plain data, blocked", deed, full) },
            Row { kind: Kind::TwoDeaths, heir, ..row("plain data, heir asleep opposite", deed, none) },
        ]);
    }
    rows
}

/// All scenarios of channels.
pub fn scenarios() -> Vec<Scenario> {
    let plain = plain_rows().into_iter().map(scenario);
    rows::<Bytes>().into_iter().map(scenario).chain(plain).collect()
}

fn scenario<C: Carries>(row: Row<C>) -> Scenario {
    Scenario {
        operation: row.deed.name(),
        company: row.company,
        kind: row.kind,
        play: Box::new(move || play(row)),
    }
}

fn play<C: Carries>(row: Row<C>) -> Play {
    let post = Post::<C>::new();
    fill(&post, row.letters);
    (row.before)(&post, row.deed.end());
    let companions = (row.companions)(&post, row.deed);
    let victim = post.clone();
    let heir = row.heir.map(|deed| {
        let post = post.clone();
        Box::new(move || deed.act(&post, HEIRS, HEIR_KNOWS, true)) as _
    });
    Play {
        victim: Box::new(move || row.deed.act(&victim, VICTIMS, KNOWS, row.claimed)),
        enters: row.enters,
        heir,
        companions,
        verify: Box::new(move |_| verify(&post, row)),
    }
}

/// What is left when everybody has ended.
fn verify<C: Carries>(post: &Post<C>, row: Row<C>) -> Damage {
    // In a process of its own: in a damaged channel it might never end.
    let mut auditor = Process::fork(|| audit(post));
    if !auditor.until_ended(LIMIT) || !auditor.ended_well() {
        return Damage { wedged: 1, ..Damage::default() };
    }
    let (mut missing, mut doubled) = (0, 0);
    for number in 0..NUMBERS as u32 {
        let (sent, got) = (count(ACCEPTED + number as usize), count(RECEIVED + number as usize));
        // Whether it was accepted, a sender that died in between could not say.
        let unsure = (VICTIMS..VICTIMS + BATCH).contains(&number) && row.deed.end() == End::Sending
            || (HEIRS..HEIRS + BATCH).contains(&number)
            || number >= PEERS;
        missing += sent.saturating_sub(got);
        doubled += got.saturating_sub(sent.max(u64::from(unsure)));
    }
    // Those whose end it was may have taken some along; and what lies before a closed end is nobody's.
    let receiver_closed = post.receiver(|receiver| receiver.is_closed());
    let mut takes = if count(KNOWS) == 0 { row.deed.takes() } else { 0 };
    takes += row.heir.filter(|_| count(HEIR_KNOWS) == 0).map_or(0, Deed::takes);
    let mut lost = if receiver_closed { 0 } else { missing.saturating_sub(takes) };
    lost += count(SHRUNK) + count(DISORDER);
    // Who was told that nobody is there any more had received all that there was.
    if row.deed.end() == End::Sending && count(TOLD_GONE) > 0 {
        lost += count(LEFT);
    }
    Damage { wedged: 0, torn: count(TORN), lost, doubled }
}

/// Claims both ends, whose holders are dead or gone, empties the channel, and sees that as much fits as ever.
fn audit<C: Carries>(post: &Post<C>) {
    let (sender, receiver) = &mut *post.ends.borrow_mut();
    let claimed = [sender.claim(), receiver.claim()];
    assert!(claimed.iter().all(|claim| matches!(claim, Ok(()) | Err(ClaimError::Closed))), "{claimed:?}");
    if claimed[1].is_err() {
        return;
    }
    let here = receiver.len() as u64;
    let mut left = 0;
    while let Ok(letter) = receiver.try_recv() {
        note(letter.as_ref());
        left += 1;
        assert!(left < NUMBERS as u64, "a channel that gives without end");
    }
    cell(LEFT).store(left, SeqCst);
    let mut shrunk = here.abs_diff(left);
    if claimed[0].is_ok() {
        let fits =
            (AUDITORS..).take_while(|&number| sender.try_send(C::letter(number)).is_ok()).count() as u64;
        shrunk += fits.abs_diff(u64::from(BATCH));
        shrunk += fits.abs_diff(std::iter::from_fn(|| receiver.try_recv().ok()).count() as u64);
    }
    cell(SHRUNK).store(shrunk, SeqCst);
}
