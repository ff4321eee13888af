//! Operation lists against an event, barriers, a once, a once-value and a condition, as far as one thread alone can
//! use them without waiting.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use arbitrary::Arbitrary;
use pshared::{Atomic, Barrier, BarrierError, Condition, Event, Lock, Once, OnceError, OnceValue, RLock};

#[derive(Arbitrary, Debug)]
enum Op {
    Set,
    Clear,
    Wait,
    /// At the barrier of one party.
    Pass,
    /// At that of several, in vain.
    Late,
    Abort(bool),
    Reset(bool),
    Call,
    CallPanics,
    CallWithin,
    Make(u64),
    Put(u64),
    Notify(u8),
    NotifyAll,
    WaitInVain,
    /// Taken so often.
    WaitInVainReentrant(u8),
}

pub fn run(data: &[u8]) {
    let Some((parties, ops)) = super::case::<(u8, Vec<Op>)>(data) else { return };
    let parties = 2 + usize::from(parties % 100);
    let (event, mut is_set) = (Event::new().unwrap(), false);
    let passed = Atomic::new(0_u32).unwrap();
    let counted = passed.clone();
    let one = Barrier::with_action(1, move || _ = counted.fetch_add(1)).unwrap();
    let barriers = [one, Barrier::new(parties).unwrap()];
    let (mut broken, mut passes) = ([None; 2], 0);
    let (once, mut done) = (Once::new().unwrap(), false);
    let (value, mut made) = (OnceValue::<u64>::new().unwrap(), None);
    let (lock, relock) = (Lock::new().unwrap(), RLock::new().unwrap());
    let (condition, recondition) = (Condition::new(&lock).unwrap(), Condition::new(&relock).unwrap());
    for op in ops {
        match op {
            Op::Set => assert_eq!(event.set(), !std::mem::replace(&mut is_set, true)),
            Op::Clear => assert_eq!(event.clear(), std::mem::replace(&mut is_set, false)),
            Op::Wait => assert_eq!(event.wait_timeout(Duration::ZERO), is_set),
            Op::Pass => match barriers[0].wait_timeout(Duration::ZERO) {
                Ok(passed) => {
                    assert!(broken[0].is_none() && passed.is_leader() && passed.index() == 0);
                    passes += 1;
                }
                Err(why) => assert_eq!(Some(why), broken[0]),
            },
            Op::Late => {
                let why = barriers[1].wait_timeout(Duration::ZERO).unwrap_err();
                assert_eq!(why, *broken[1].get_or_insert(BarrierError::TimedOut));
            }
            Op::Abort(which) => {
                barriers[usize::from(which)].abort();
                broken[usize::from(which)].get_or_insert(BarrierError::Aborted);
            }
            Op::Reset(which) => {
                barriers[usize::from(which)].reset();
                broken[usize::from(which)] = None;
            }
            Op::Call => {
                assert_eq!(once.try_call_once(|| ()), Ok(!done));
                done = true;
            }
            Op::CallPanics => {
                let call = || once.call_once_timeout(Duration::ZERO, || resume_unwind(Box::new(())));
                assert_eq!(catch_unwind(AssertUnwindSafe(call)).is_err(), !done);
            }
            Op::CallWithin => {
                let mut within = None;
                assert_eq!(once.call_once(|| within = Some(once.call_once(|| ()))), Ok(!done));
                assert_eq!(within, (!done).then_some(Err(OnceError::Reentered)));
                done = true;
            }
            Op::Make(n) => {
                let n = *made.get_or_insert(n);
                assert_eq!(value.get_or_init(|| n), Ok(n));
            }
            Op::Put(n) => {
                assert_eq!(value.set(n), if made.is_none() { Ok(()) } else { Err(OnceError::AlreadySet) });
                made.get_or_insert(n);
            }
            // Nobody waits: whoever did was told that its time was up.
            Op::Notify(n) => assert_eq!((condition.notify_n(n.into()), recondition.notify_one()), (0, 0)),
            Op::NotifyAll => assert_eq!((condition.notify_all(), recondition.notify_all()), (0, 0)),
            Op::WaitInVain => {
                let (guard, late) = condition.wait_timeout(lock.lock().unwrap(), Duration::ZERO).unwrap();
                assert!(late && lock.try_lock().is_err());
                drop(guard);
                assert!(lock.try_lock().is_ok());
            }
            Op::WaitInVainReentrant(depth) => {
                let outer: Vec<_> = (0..depth % 4).map(|_| relock.lock().unwrap()).collect();
                let guard = relock.lock().unwrap();
                let (guard, late) = recondition.wait_timeout(guard, Duration::ZERO).unwrap();
                assert!(late && relock.depth() == 1 + outer.len() as u32);
                drop((guard, outer));
                assert_eq!(relock.depth(), 0);
            }
        }
        assert_eq!((event.is_set(), once.is_completed(), value.get()), (is_set, done, made));
        assert_eq!(passed.get(), passes);
        assert!(
            (0..2).all(|i| barriers[i].is_broken() == broken[i].is_some() && barriers[i].n_waiting() == 0)
        );
    }
}
