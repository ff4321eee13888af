//! `JoinableQueue`: its operations, and the companies in which they are killed.
//!
//! Five items have numbers of their own, in two copies each, so that a torn one shows. Whoever finishes one notes it
//! when that is done; in the end an auditor takes what is left. What nobody noted was finished by the victim or the
//! heir, who could not say so any more: at most one for each. All is finished in the end, every place can be used
//! again, and whoever waits for an item, for a place or for the end of all has it within a second.

use std::sync::atomic::Ordering::SeqCst;

use pshared::{JoinableQueue, PlainData};

use crate::{
    board::{board, count, up},
    company::{Body, Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause},
    scenario::{Damage, Enters, Kind, Play, Scenario},
    trace::stepped,
};

type Tasks = JoinableQueue<[u64; 2], PlainData>;

/// Items have numbers from 1 to this.
const ITEMS: u64 = 5;
/// What is on the board: for each number how often it was finished, then these.
const TORN: usize = 10;
/// Places that can still be used in the end.
const PLACES: usize = 11;
const LETTERS: usize = 12;
const SENT: usize = 13;

fn item(number: u64) -> [u64; 2] {
    [number, !number]
}

/// Notes that an item was finished.
fn note([number, check]: [u64; 2]) {
    up(if check != !number || !(1..=ITEMS).contains(&number) { TORN } else { number as usize });
}

/// The objects of one trial.
#[derive(Clone)]
struct Shop {
    tasks: Tasks,
    scratch: Tasks,
}

impl Shop {
    fn new(takers: usize, deliveries: u32) -> Shop {
        let make = || {
            let letters = usize::from(deliveries < 9);
            let builder = JoinableQueue::builder(256).takers(takers).dead_letters(letters);
            builder.deliveries(deliveries).build_plain().expect("a queue")
        };
        Shop { tasks: make(), scratch: make() }
    }

    fn send(&self, number: u64) {
        self.tasks.send(item(number)).expect("nobody closes it yet");
        up(SENT);
    }

    /// Takes one and finishes it.
    fn work(&self) {
        if let Ok(task) = self.tasks.recv() {
            let contents = *task;
            task.done();
            note(contents);
        }
    }

    /// Uses everything once.
    fn warm(&self) {
        for _ in 0..2 {
            let _ = self.scratch.send(item(1));
            if let Ok(task) = self.scratch.recv() {
                task.give_back();
            }
            if let Ok(task) = self.scratch.try_recv() {
                task.done();
            }
            self.scratch.dead_letters().for_each(drop);
            self.scratch.join_timeout(std::time::Duration::ZERO);
        }
    }
}

/// What the traced process does, by name.
type Deed = (&'static str, fn(&Shop));

/// Taking and finishing in one way.
const WORK: Deed = ("JoinableQueue::recv, done", |shop| {
    stepped(|| {
        if let Ok(task) = shop.tasks.recv() {
            let contents = *task;
            task.done();
            note(contents);
        }
    });
});
const TRY: Deed = ("JoinableQueue::try_recv, done", |shop| {
    stepped(|| {
        if let Ok(task) = shop.tasks.try_recv() {
            let contents = *task;
            task.done();
            note(contents);
        }
    });
});
const GIVE_BACK: Deed = ("JoinableQueue::recv, give_back", |shop| {
    stepped(|| {
        if let Ok(task) = shop.tasks.recv() {
            task.give_back();
        }
    });
});
const DONE: Deed = ("Task::done", |shop| {
    let task = shop.tasks.recv().expect("an item");
    let contents = *task;
    stepped(|| {
        task.done();
        note(contents);
    });
});
const KEPT: Deed = ("JoinableQueue::task_done", |shop| {
    let contents = shop.tasks.recv().expect("an item").into_inner();
    stepped(|| {
        shop.tasks.task_done().expect("one was kept");
        note(contents);
    });
});
const RETURN: Deed = ("Task::give_back", |shop| {
    let task = shop.tasks.recv().expect("an item");
    stepped(|| task.give_back());
});
const JOIN: Deed = ("JoinableQueue::join", |shop| stepped(|| shop.tasks.join()));
const LETTER: Deed = ("JoinableQueue::dead_letters", |shop| {
    stepped(|| {
        if shop.tasks.dead_letters().next().is_some() {
            up(LETTERS);
        }
    });
});

const SEND: Deed = ("JoinableQueue::send", |shop| stepped(|| shop.send(2)));
const CLOSE: Deed = ("JoinableQueue::close", |shop| stepped(|| shop.tasks.close()));

struct Row {
    deed: Deed,
    company: &'static str,
    kind: Kind,
    enters: Enters,
    /// Items sent before anybody comes.
    sent: u64,
    takers: usize,
    deliveries: u32,
    /// What was done before anybody comes.
    before: fn(&Shop),
    companions: fn(&Shop) -> Vec<Companion>,
    heir: Option<Deed>,
    /// Dead letters that there must be in the end, read or not.
    letters: u64,
    closes: bool,
}

const fn row(deed: Deed, company: &'static str, companions: fn(&Shop) -> Vec<Companion>) -> Row {
    Row {
        deed,
        company,
        kind: Kind::OneDeath,
        enters: Enters::Awake,
        sent: 1,
        takers: 3,
        deliveries: 100,
        before: |_| (),
        companions,
        heir: None,
        letters: 0,
        closes: false,
    }
}

// The companions.

/// Takes an item and finishes it, asleep as long as it must.
fn worker(shop: &Shop, moment: Moment) -> Companion {
    let shop = shop.clone();
    Companion::new("worker", [(moment, Asleep)], move || shop.work())
}

/// Sends an item.
fn sender(shop: &Shop, number: u64, moment: Moment) -> Companion {
    let shop = shop.clone();
    Companion::new("sender", [(Opening, Paused), (moment, Nothing)], move || {
        pause();
        shop.send(number);
    })
}

/// Sends an item when all others are finished; as long as they are not, whoever waits for one must find it by himself.
fn patient_sender(shop: &Shop, number: u64, moment: Moment) -> Companion {
    let shop = shop.clone();
    Companion::new("patient sender", [(moment, Nothing)], move || {
        while shop.tasks.unfinished() > 0 {
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        shop.send(number);
    })
}

/// Sends, after the death, so many that each of two receivers gets one.
fn two_more(shop: &Shop) -> Companion {
    let shop = shop.clone();
    Companion::new("sender of two", [(Death, Nothing)], move || (3..=4).for_each(|number| shop.send(number)))
}

/// Waits until all is finished.
fn joiner(shop: &Shop) -> Companion {
    let shop = shop.clone();
    Companion::new("joiner", [(Ready, Asleep)], move || shop.tasks.join())
}

/// Finishes what there is after the death, and comes for what is given back meanwhile.
fn finisher(shop: &Shop, moment: Moment) -> Companion {
    let shop = shop.clone();
    Companion::new("finisher", [(moment, Nothing)], move || {
        while shop.tasks.unfinished() > 0 {
            if let Ok(task) = shop.tasks.try_recv() {
                let contents = *task;
                task.done();
                note(contents);
            }
        }
    })
}

/// Holds an item until the victim is to be woken.
fn holder(shop: &Shop) -> Companion {
    let shop = shop.clone();
    Companion::new("holder", [(Opening, Paused), (Wake, Ended)], move || {
        let task = shop.tasks.recv().expect("an item");
        let contents = *task;
        pause();
        task.done();
        note(contents);
    })
}

/// Holds an item until the death.
fn late_holder(shop: &Shop) -> Companion {
    let shop = shop.clone();
    Companion::new("late holder", [(Opening, Paused), (Death, Nothing)], move || {
        let task = shop.tasks.recv().expect("an item");
        let contents = *task;
        pause();
        task.done();
        note(contents);
    })
}

/// Holds an item, and is killed when the victim is to be woken.
fn dying_holder(shop: &Shop) -> Companion {
    let shop = shop.clone();
    Companion::new("dying holder", [(Opening, Paused), (Wake, Ended)], move || {
        let inner = shop.clone();
        let mut holder = Process::fork(move || {
            std::mem::forget(inner.tasks.recv());
            loop {
                std::thread::park();
            }
        });
        while !shop.tasks.is_empty() {
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        pause();
        holder.kill();
    })
}

fn closer(shop: &Shop, moment: Moment) -> Companion {
    let shop = shop.clone();
    Companion::new("closer", [(moment, Ended)], move || shop.tasks.close())
}

/// One died with an item in hand.
fn taken_by_the_dead(shop: &Shop) {
    let inner = shop.clone();
    let mut dead = Process::fork(move || std::mem::forget(inner.tasks.recv()));
    assert!(dead.until_ended(LIMIT), "it does not end");
}

/// One item is a dead letter.
fn one_letter(shop: &Shop) {
    taken_by_the_dead(shop);
    assert!(shop.tasks.try_recv().is_err());
    assert_eq!((shop.tasks.unfinished(), shop.tasks.len()), (0, 0));
}

static ROWS: &[Row] = &[
    row(WORK, "alone", |s| vec![finisher(s, Death)]),
    row(WORK, "joiner", |s| vec![joiner(s), finisher(s, Death)]),
    Row { sent: 3, ..row(WORK, "three items, alone", |s| vec![finisher(s, Death)]) },
    row(WORK, "two behind", |s| {
        vec![worker(s, Stop), worker(s, Stop), sender(s, 2, Death), sender(s, 3, Death)]
    }),
    row(WORK, "one behind, who gets what is left", |s| vec![worker(s, Stop), patient_sender(s, 2, Death)]),
    Row { before: taken_by_the_dead, ..row(WORK, "given back by a death", |s| vec![finisher(s, Death)]) },
    Row {
        before: taken_by_the_dead,
        ..row(WORK, "given back by a death, one behind", |s| {
            vec![worker(s, Stop), patient_sender(s, 2, Death)]
        })
    },
    Row {
        deliveries: 1,
        letters: 1,
        sent: 2,
        before: |shop| taken_by_the_dead(shop),
        ..row(WORK, "a dead letter to be made, joiner", |s| vec![joiner(s), finisher(s, Death)])
    },
    Row {
        sent: 0,
        ..row(WORK, "nothing there, one behind", |s| {
            vec![worker(s, Stop), sender(s, 1, Death), sender(s, 2, Death)]
        })
    },
    Row {
        sent: 0,
        enters: Enters::Woken,
        ..row(WORK, "woken by an item, one behind", |s| {
            vec![sender(s, 1, Wake), worker(s, Ready), sender(s, 2, Death)]
        })
    },
    Row {
        enters: Enters::Woken,
        ..row(WORK, "woken by a taker's death, one behind", |s| {
            vec![dying_holder(s), worker(s, Ready), patient_sender(s, 2, Death)]
        })
    },
    Row {
        sent: 2,
        takers: 1,
        enters: Enters::Woken,
        ..row(WORK, "woken by a free place, one behind", |s| {
            vec![holder(s), worker(s, Ready), sender(s, 3, Death)]
        })
    },
    Row {
        sent: 0,
        enters: Enters::Woken,
        closes: true,
        ..row(WORK, "woken by the closing, one behind", |s| vec![closer(s, Wake), worker(s, Ready)])
    },
    Row {
        closes: true,
        ..row(WORK, "closed, two wait for what the victim holds", |s| {
            vec![closer(s, Mark), worker(s, Stop), worker(s, Stop)]
        })
    },
    row(TRY, "alone", |s| vec![finisher(s, Death)]),
    Row { before: taken_by_the_dead, ..row(TRY, "given back by a death", |s| vec![finisher(s, Death)]) },
    Row { sent: 0, ..row(TRY, "nothing there", |s| vec![sender(s, 1, Death)]) },
    row(GIVE_BACK, "alone", |s| vec![finisher(s, Death)]),
    row(GIVE_BACK, "one behind", |s| vec![worker(s, Stop), patient_sender(s, 2, Death)]),
    row(DONE, "alone", |_| vec![]),
    row(DONE, "receiver asleep", |s| vec![worker(s, Ready), patient_sender(s, 2, Death)]),
    Row { closes: true, ..row(DONE, "closed, receiver asleep", |s| vec![closer(s, Mark), worker(s, Ready)]) },
    Row {
        sent: 2,
        takers: 1,
        ..row(DONE, "receiver asleep without a place", |s| vec![worker(s, Ready), sender(s, 3, Death)])
    },
    row(DONE, "two joiners", |s| vec![joiner(s), joiner(s), finisher(s, Death)]),
    Row {
        closes: true,
        ..row(DONE, "two joiners, receiver asleep", |s| {
            vec![joiner(s), joiner(s), worker(s, Ready), closer(s, Death)]
        })
    },
    row(KEPT, "two joiners", |s| vec![joiner(s), joiner(s), finisher(s, Death)]),
    row(RETURN, "alone", |s| vec![finisher(s, Death)]),
    row(RETURN, "receiver asleep", |s| vec![worker(s, Ready), patient_sender(s, 2, Death)]),
    row(JOIN, "another joiner, finished at the kill point", |s| vec![joiner(s), finisher(s, Stop)]),
    row(JOIN, "another joiner", |s| vec![joiner(s), finisher(s, Death)]),
    Row {
        enters: Enters::Woken,
        ..row(JOIN, "woken, two more joiners", |s| vec![holder(s), joiner(s), joiner(s)])
    },
    row(SEND, "alone", |s| vec![finisher(s, Death)]),
    row(SEND, "joiner", |s| vec![joiner(s), finisher(s, Death)]),
    Row {
        sent: 0,
        ..row(SEND, "two receivers asleep", |s| vec![worker(s, Ready), worker(s, Ready), two_more(s)])
    },
    Row {
        sent: 0,
        closes: true,
        ..row(CLOSE, "two receivers asleep", |s| vec![worker(s, Ready), worker(s, Ready), closer(s, Death)])
    },
    Row {
        closes: true,
        ..row(CLOSE, "a held item, receiver asleep, joiner", |s| {
            vec![late_holder(s), worker(s, Ready), joiner(s), closer(s, Death)]
        })
    },
    Row { deliveries: 1, letters: 1, before: one_letter, ..row(LETTER, "alone", |_| vec![]) },
    Row {
        deliveries: 1,
        letters: 1,
        before: one_letter,
        ..row(LETTER, "receiver asleep", |s| vec![worker(s, Ready), sender(s, 2, Death)])
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(WORK),
        ..row(DONE, "heir asleep, another behind it", |s| {
            vec![worker(s, Ready), nudge(s, 4), sender(s, 2, SecondDeath)]
        })
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(WORK),
        takers: 2,
        ..row(RETURN, "heir asleep, another behind it", |s| {
            vec![worker(s, Ready), patient_sender(s, 2, SecondDeath)]
        })
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(WORK),
        sent: 0,
        enters: Enters::Woken,
        ..row(WORK, "woken by an item, heir and another behind", |s| {
            vec![sender(s, 1, Wake), worker(s, Ready), nudge(s, 4), sender(s, 2, SecondDeath)]
        })
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(JOIN),
        ..row(DONE, "heir and another wait for the end of all", |s| vec![joiner(s), finisher(s, Death)])
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(WORK),
        ..row(RETURN, "stopped receiver", |s| vec![patient_sender(s, 2, Death)])
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(WORK),
        ..row(DONE, "stopped receiver", |s| vec![patient_sender(s, 2, Death)])
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(JOIN),
        ..row(DONE, "stopped joiner", |s| vec![finisher(s, Death)])
    },
];

/// Wakes an heir that the victim's death did not wake.
fn nudge(shop: &Shop, number: u64) -> Companion {
    let shop = shop.clone();
    Companion::new("nudge", [(Death, Ended)], move || {
        if shop.tasks.unfinished() == 0 {
            shop.send(number);
        }
    })
}

/// All scenarios of `JoinableQueue`.
pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter()
        .map(|row| Scenario {
            operation: row.deed.0,
            company: row.company,
            kind: row.kind,
            play: Box::new(move || play(row)),
        })
        .collect()
}

fn body(shop: &Shop, deed: Deed) -> Body {
    let shop = shop.clone();
    Box::new(move || {
        shop.warm();
        deed.1(&shop);
    })
}

fn play(row: &'static Row) -> Play {
    let shop = Shop::new(row.takers, row.deliveries);
    (1..=row.sent).for_each(|number| shop.send(number));
    (row.before)(&shop);
    Play {
        victim: body(&shop, row.deed),
        enters: row.enters,
        heir: row.heir.map(|deed| body(&shop, deed)),
        companions: (row.companions)(&shop),
        verify: Box::new(move |_| verify(&shop, row)),
    }
}

/// What is left when everybody has ended.
fn verify(shop: &Shop, row: &Row) -> Damage {
    let (inner, closes) = (shop.clone(), row.closes);
    let mut auditor = Process::fork(move || audit(&inner, closes));
    if !auditor.until_ended(LIMIT) || !auditor.ended_well() {
        return Damage { wedged: 1, ..Damage::default() };
    }
    let finished = || (1..=ITEMS).map(|number| count(number as usize));
    let doubled = finished().map(|times| times.saturating_sub(1)).sum();
    // Finished, and not noted: by one of the dead.
    let unsaid = if row.kind == Kind::TwoDeaths { 2 } else { 1 };
    let noted: u64 = finished().map(|times| times.min(1)).sum();
    let mut lost = count(SENT).saturating_sub(noted + row.letters + unsaid);
    // A letter that one of the dead had opened.
    let opened = u64::from(row.deed.0 == LETTER.0);
    lost += (row.letters - opened.min(row.letters)).saturating_sub(count(LETTERS));
    lost += count(LETTERS).saturating_sub(row.letters);
    if !closes {
        let places = row.takers as u64 + u64::from(row.deliveries < 9);
        lost += places.abs_diff(count(PLACES));
    }
    Damage { wedged: 0, torn: count(TORN), lost, doubled }
}

/// Finishes what is left, reads the letters, and sees whether every place can still be used.
fn audit(shop: &Shop, closed: bool) {
    while let Ok(task) = shop.tasks.try_recv() {
        let contents = *task;
        task.done();
        note(contents);
    }
    assert_eq!(shop.tasks.unfinished(), 0, "something is neither finished nor to be had");
    shop.tasks.join();
    shop.tasks.dead_letters().for_each(|_| up(LETTERS));
    if closed {
        return;
    }
    let fill =
        |_: &u64| shop.tasks.send(item(1)).is_ok() && shop.tasks.try_recv().map(std::mem::forget).is_ok();
    let places = (0..9).take_while(fill).count() as u64;
    board().cells[PLACES].store(places, SeqCst);
}
