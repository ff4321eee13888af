//! `Value`, `Array` and `Atomic`: their operations, and the companies in which they are killed.
//!
//! A row of words is written from one number, so that a mixture of two shows. Every change but the victim's adds 1;
//! the victim adds (or sets) [`STEP`]. So what is left tells who got through, exactly.

use std::{mem::forget, sync::atomic::Ordering::SeqCst};

use pshared::{Array, ArrayGuard, Atomic, LockError, Value, ValueGuard};

use crate::{
    board::{board, count, up},
    company::{Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause, run_to_end},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// What the victim adds.
const STEP: u64 = 1000;
/// The words of a value.
const WORDS: usize = 4;
/// The elements of an array: a copy takes several instructions.
const ELEMENTS: usize = 40;

type Row = [u64; WORDS];

// What is on the board.
/// How many changes the companions have made.
const CHANGES: usize = 0;
/// Mixtures seen.
const MIXTURES: usize = 1;
/// How often a number was smaller than one that the same process had seen before.
const BACKWARDS: usize = 2;
/// The victim's change was made when it said so.
const MADE: usize = 3;
/// How many were told of a death.
const TOLD: usize = 4;
/// Mixtures whose finder was not told.
const UNTOLD: usize = 5;

/// The words written from `number`.
fn row<const N: usize>(number: u64) -> [u64; N] {
    std::array::from_fn(|i| number.wrapping_mul(2 * i as u64 + 1))
}

/// The number that they were written from, if it is one.
fn number(words: &[u64]) -> Option<u64> {
    let number = words[0];
    let whole = words.iter().enumerate().all(|(i, &word)| word == number.wrapping_mul(2 * i as u64 + 1));
    whole.then_some(number)
}

/// The number of what was read; a mixture is noted.
fn checked(words: &[u64]) -> u64 {
    number(words).unwrap_or_else(|| {
        up(MIXTURES);
        0
    })
}

/// What a trial is about.
#[derive(Clone)]
struct Goods {
    value: Value<Row>,
    array: Array<u64>,
    atomic: Atomic<u64>,
    /// For getting warm.
    scratch: (Value<Row>, Array<u64>),
}

impl Goods {
    fn new() -> Goods {
        let value = || Value::new(row(0)).expect("a value");
        let array = || Array::new(&row::<ELEMENTS>(0)).expect("an array");
        Goods {
            value: value(),
            array: array(),
            atomic: Atomic::new(0).expect("a number"),
            scratch: (value(), array()),
        }
    }
}

fn warm(goods: &Goods) {
    let (value, array) = &goods.scratch;
    for _ in 0..2 {
        value.update(|words| *words = row(1));
        value.set(row(2));
        drop(value.lock().expect("nobody else has the scratch value"));
        array.copy_from_slice(0, &row::<ELEMENTS>(1)).expect("it fits");
        drop(array.lock().expect("nobody else has the scratch array"));
        drop(array.to_vec());
    }
}

fn held(goods: &Goods) -> ValueGuard<'_, Row> {
    goods.value.lock().expect("a value's lock reports no death")
}

/// The guard, whatever the array's history.
fn array_held(array: &Array<u64>) -> (bool, ArrayGuard<'_, u64>) {
    match array.lock() {
        Ok(guard) => (false, guard),
        Err(LockError::OwnerDied(guard)) => (true, guard),
        Err(error) => panic!("an array's lock: {error}"),
    }
}

fn add_to(words: &mut [u64], step: u64) {
    let next = checked(words) + step;
    words.iter_mut().enumerate().for_each(|(i, word)| *word = next.wrapping_mul(2 * i as u64 + 1));
}

/// What the victim's operation does to what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Adds [`STEP`].
    Adds,
    /// Puts [`STEP`] in the place of whatever is there.
    Sets,
    Nothing,
}

/// What a victim does. It calls `stepped` once.
struct Operation {
    name: &'static str,
    effect: Effect,
    body: fn(&Goods),
}

fn made() {
    board().cells[MADE].store(1, SeqCst);
}

static UPDATE: Operation = Operation {
    name: "Value::update",
    effect: Effect::Adds,
    body: |goods| {
        warm(goods);
        stepped(|| {
            goods.value.update(|words| add_to(words, STEP));
            made();
        });
    },
};
static SET: Operation = Operation {
    name: "Value::set",
    effect: Effect::Sets,
    body: |goods| {
        warm(goods);
        let next = row(STEP);
        stepped(|| {
            goods.value.set(next);
            made();
        });
    },
};
static GET: Operation = Operation {
    name: "Value::get",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        stepped(|| checked(&goods.value.get()));
    },
};
static LOCK: Operation = Operation {
    name: "Value::lock",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        forget(stepped(|| goods.value.lock()));
    },
};
static TRY_LOCK: Operation = Operation {
    name: "Value::try_lock",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        forget(stepped(|| goods.value.try_lock()));
    },
};
static COMMIT: Operation = Operation {
    name: "ValueGuard: change, drop",
    effect: Effect::Adds,
    body: |goods| {
        warm(goods);
        let mut guard = held(goods);
        stepped(|| {
            add_to(&mut *guard, STEP);
            drop(guard);
            made();
        });
    },
};
static DISCARD: Operation = Operation {
    name: "ValueGuard: change, discard",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        let mut guard = held(goods);
        stepped(|| {
            add_to(&mut *guard, STEP);
            guard.discard();
        });
    },
};
static FETCH_ADD: Operation = Operation {
    name: "Atomic::fetch_add",
    effect: Effect::Adds,
    body: |goods| {
        stepped(|| {
            goods.atomic.fetch_add(STEP);
            made();
        });
    },
};
static COPY_FROM: Operation = Operation {
    name: "Array::copy_from_slice",
    effect: Effect::Sets,
    body: |goods| {
        warm(goods);
        let next = row::<ELEMENTS>(STEP);
        stepped(|| {
            let copied = goods.array.copy_from_slice(0, &next);
            made();
            copied
        })
        .expect("it fits");
    },
};
/// One element is stored in one step, so no death in it is told. It is stored as it was: the row stays whole.
static ARRAY_SET: Operation = Operation {
    name: "Array::set",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        stepped(|| goods.array.set(0, 0)).expect("it has elements");
    },
};
static ARRAY_CHANGE: Operation = Operation {
    name: "ArrayGuard: change, drop",
    effect: Effect::Sets,
    body: |goods| {
        warm(goods);
        let (_, mut guard) = array_held(&goods.array);
        let next = row::<ELEMENTS>(STEP);
        stepped(|| {
            guard[..8].copy_from_slice(&next[..8]);
            guard[8..].copy_from_slice(&next[8..]);
            drop(guard);
            made();
        });
    },
};
static ARRAY_READ: Operation = Operation {
    name: "Array::copy_to_slice",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        let mut seen = [0; ELEMENTS];
        stepped(|| goods.array.copy_to_slice(0, &mut seen)).expect("it fits");
    },
};
static ARRAY_LOCK: Operation = Operation {
    name: "Array::lock",
    effect: Effect::Nothing,
    body: |goods| {
        warm(goods);
        forget(stepped(|| goods.array.lock()));
    },
};

// The companions. What they do to which of the goods is the circle's `change`.

fn change_value(goods: &Goods) {
    goods.value.update(|words| add_to(words, 1));
    up(CHANGES);
}

fn change_atomic(goods: &Goods) {
    goods.atomic.fetch_add(1);
    up(CHANGES);
}

/// Takes the array as it is; told of a death, he makes it whole.
fn change_array(goods: &Goods) {
    let (told, mut guard) = array_held(&goods.array);
    if told {
        up(TOLD);
        guard.make_consistent();
        if number(&guard).is_none() {
            // Half of STEP is there: he finishes what the dead began.
            guard.copy_from_slice(&row::<ELEMENTS>(STEP));
        }
    } else if number(&guard).is_none() {
        up(UNTOLD);
    }
    add_to(&mut guard, 1);
    drop(guard);
    up(CHANGES);
}

type Change = fn(&Goods);

/// Changes them at `moment`, if it must after a sleep.
fn writer(goods: &Goods, change: Change, moment: Moment) -> Companion {
    let goods = goods.clone();
    Companion::new("writer", [(moment, Asleep)], move || change(&goods))
}

/// Changes them when it is over.
fn late_writer(goods: &Goods, change: Change) -> Companion {
    let goods = goods.clone();
    Companion::new("late writer", [(Death, Nothing)], move || change(&goods))
}

/// Reads the value before, at and after the kill point: it never waits, sees no mixture, and nothing go back.
fn reader(goods: &Goods) -> Companion {
    let value = goods.value.clone();
    Companion::new("reader", [(Opening, Paused), (Stop, Paused), (Death, Nothing)], move || {
        let before = checked(&value.get());
        pause();
        let amid = checked(&value.get());
        pause();
        let after = checked(&value.get());
        if amid < before || after < amid {
            up(BACKWARDS);
        }
    })
}

/// Tries once at the kill point; what it gets it holds over the death.
fn barger(goods: &Goods) -> Companion {
    let goods = goods.clone();
    Companion::new("barger", [(Opening, Paused), (Stop, Paused), (Death, Nothing)], move || {
        pause();
        let tried = goods.value.try_lock();
        pause();
        match tried {
            Ok(mut guard) => {
                add_to(&mut *guard, 1);
                drop(guard);
                up(CHANGES);
            }
            Err(LockError::WouldBlock) => change_value(&goods),
            Err(error) => panic!("a value's lock: {error}"),
        }
    })
}

/// Has the value's lock until `moment`.
fn holder(goods: &Goods, moment: Moment) -> Companion {
    let goods = goods.clone();
    Companion::new("holder", [(Opening, Paused), (moment, Ended)], move || {
        let mut guard = held(&goods);
        pause();
        add_to(&mut *guard, 1);
        drop(guard);
        up(CHANGES);
    })
}

fn nothing(_: &Goods) {}

/// A process died as it held the locks, and had changed its copy of the value.
fn owner_died(goods: &Goods) {
    run_to_end(|| {
        let mut guard = held(goods);
        add_to(&mut *guard, 77);
        forget(guard);
        forget(goods.array.lock());
    });
}

/// A company, and what happened before.
struct Circle {
    name: &'static str,
    enters: Enters,
    before: fn(&Goods),
    companions: fn(&Goods) -> Vec<Companion>,
}

const fn awake(name: &'static str, companions: fn(&Goods) -> Vec<Companion>) -> Circle {
    Circle { name, enters: Enters::Awake, before: nothing, companions }
}

impl Circle {
    const fn woken(mut self) -> Circle {
        self.enters = Enters::Woken;
        self
    }

    const fn after(mut self, before: fn(&Goods)) -> Circle {
        self.before = before;
        self
    }
}

const VALUE: &[Circle] = &[
    awake("alone", |g| vec![late_writer(g, change_value)]),
    awake("reader", |g| vec![reader(g), late_writer(g, change_value)]),
    awake("reader, writer behind, barger", |g| vec![reader(g), writer(g, change_value, Stop), barger(g)]),
    awake("owner died before, writer behind", |g| vec![writer(g, change_value, Stop)]).after(owner_died),
];

const VALUE_WOKEN: &[Circle] = &[awake("woken, two writers behind, reader", |g| {
    vec![holder(g, Wake), writer(g, change_value, Ready), writer(g, change_value, Ready), reader(g)]
})
.woken()];

const VALUE_HELD: &[Circle] = &[
    awake("two writers asleep, reader", |g| {
        vec![writer(g, change_value, Ready), writer(g, change_value, Ready), reader(g)]
    }),
    awake("writer asleep, barger", |g| vec![writer(g, change_value, Ready), barger(g)]),
];

const ATOMIC: &[Circle] = &[awake("another at the kill point", |g| {
    vec![writer(g, change_atomic, Stop), late_writer(g, change_atomic)]
})];

const ARRAY: &[Circle] = &[
    awake("alone", |g| vec![late_writer(g, change_array)]),
    awake("two writers behind", |g| vec![writer(g, change_array, Stop), writer(g, change_array, Stop)]),
    awake("owner died before", |g| vec![late_writer(g, change_array)]).after(owner_died),
];

const ARRAY_HELD: &[Circle] =
    &[awake("two writers asleep", |g| vec![writer(g, change_array, Ready), writer(g, change_array, Ready)])];

/// All scenarios of values.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |operations: &[&'static Operation], circles: &'static [Circle]| {
        for &operation in operations {
            all.extend(circles.iter().map(|circle| scenario(operation, circle)));
        }
    };
    add(&[&UPDATE, &SET, &LOCK], VALUE);
    add(&[&UPDATE, &SET], VALUE_WOKEN);
    add(&[&GET, &TRY_LOCK], &VALUE[1..3]);
    add(&[&COMMIT, &DISCARD], VALUE_HELD);
    add(&[&FETCH_ADD], ATOMIC);
    add(&[&COPY_FROM, &ARRAY_READ, &ARRAY_LOCK], ARRAY);
    add(&[&ARRAY_SET], &ARRAY[..1]);
    add(&[&ARRAY_CHANGE], ARRAY_HELD);
    all
}

fn scenario(operation: &'static Operation, circle: &'static Circle) -> Scenario {
    let play = move || {
        let goods = Goods::new();
        (circle.before)(&goods);
        let victim = goods.clone();
        Play {
            victim: Box::new(move || (operation.body)(&victim)),
            enters: circle.enters,
            heir: None,
            companions: (circle.companions)(&goods),
            verify: Box::new(move |end| verify(&goods, operation, end)),
        }
    };
    Scenario { operation: operation.name, company: circle.name, kind: Kind::OneDeath, play: Box::new(play) }
}

/// What is left when everybody has ended.
fn verify(goods: &Goods, operation: &Operation, end: &End) -> Damage {
    let changes = count(CHANGES);
    // The next change works, on all of them.
    let mut last =
        Process::fork(|| [change_value, change_array, change_atomic].iter().for_each(|f| f(goods)));
    if !last.until_ended(LIMIT) || !last.ended_well() {
        return Damage { wedged: 1, ..Damage::default() };
    }
    let left = match operation.name {
        name if name.starts_with("Atomic") => goods.atomic.get(),
        name if name.starts_with("Array") => goods.array.get(0).expect("it has elements"),
        _ => checked(&goods.value.get()),
    };
    let torn = count(MIXTURES) + count(UNTOLD);
    // One more is the last change.
    let (before, after) = (left < STEP, left >= STEP);
    let exact = match operation.effect {
        Effect::Nothing => left == changes + 1,
        _ if before => left == changes + 1 && count(MADE) == 0,
        Effect::Adds => left == STEP + changes + 1,
        Effect::Sets => after && (1..=changes + 1).contains(&(left - STEP)),
    };
    // A death in the middle of a change is told; any other is not.
    let (told, changed) = (count(TOLD) > 0, operation.effect != Effect::Nothing && !end.finished);
    let lost =
        count(BACKWARDS) + u64::from(!exact && left <= STEP + changes + 1) + u64::from(told && !changed);
    let doubled = u64::from(!exact && left > STEP + changes + 1);
    Damage { wedged: 0, torn, lost, doubled }
}
