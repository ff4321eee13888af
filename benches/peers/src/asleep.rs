//! Hand-offs between two processes on one CPU, where each has to sleep before the other can go on: a round trip each.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use nix::{
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::{pipe, read, write},
};
use pshared::{Channel, Condition, Event, Lock};
use raw_sync::{
    Timeout,
    events::{Event as RawEvent, EventImpl, EventInit, EventState},
};

use crate::{
    drive::{ON_ONE, round_trips},
    futex,
    mq::MessageQueue,
    page::Page,
    parties::{Entrusted, Line, Mode, shared},
    python::python,
    rounds::{
        Kind::{Limit, Rival, Threads},
        Row,
    },
    semaphore,
};

/// A condition for each way, and whose turn it is.
fn condition() -> f64 {
    let turn: &Line<AtomicU32> = shared();
    let lock = Lock::new().expect("a lock");
    let ways = [(); 2].map(|()| Condition::new(&lock).expect("a condition"));
    let wait_until = |own: u32| {
        let guard = lock.lock().expect("nobody dies here");
        let guard =
            ways[own as usize].wait_while(guard, || turn.0.load(Relaxed) != own).expect("nobody dies");
        drop(guard);
    };
    let give = |other: u32| {
        let guard = lock.lock().expect("nobody dies here");
        turn.0.store(other, Relaxed);
        drop(guard);
        ways[other as usize].notify_one();
    };
    let ping = || {
        give(1);
        wait_until(0);
    };
    let pong = || {
        wait_until(1);
        give(0);
    };
    round_trips(Mode::Processes, ON_ONE, || ping, || pong)
}

fn pthread_condition() -> f64 {
    let page = Page::new();
    let mutex = page.mutex(0, false);
    // SAFETY: mutex and conditions are there to be used by all.
    let shared = unsafe { Entrusted::new((mutex, [1, 2].map(|slot| page.condition(slot)))) };
    let wait_until = |own: u32| {
        let (mutex, ways) = shared.get();
        mutex.lock();
        while page.get(0) != own {
            ways[own as usize].wait(*mutex);
        }
        mutex.unlock();
    };
    let give = |other: u32| {
        let (mutex, ways) = shared.get();
        mutex.lock();
        page.set(0, other);
        mutex.unlock();
        ways[other as usize].notify_one();
    };
    let ping = || {
        give(1);
        wait_until(0);
    };
    let pong = || {
        wait_until(1);
        give(0);
    };
    round_trips(Mode::Processes, ON_ONE, || ping, || pong)
}

/// An event for each way, cleared by who has waited for it.
pub fn events(places: [usize; 2]) -> f64 {
    let [there, back] = [(); 2].map(|()| Event::new().expect("an event"));
    let (there, back) = (&there, &back);
    let ping = || {
        move || {
            there.set();
            back.wait();
            back.clear();
        }
    };
    let pong = || {
        move || {
            there.wait();
            there.clear();
            back.set();
        }
    };
    round_trips(Mode::Processes, places, ping, pong)
}

/// The same with events of raw_sync, which reset themselves.
pub fn raw_sync_events<E: EventInit>(places: [usize; 2]) -> f64 {
    let make = || {
        let place: &Line<[u64; 32]> = shared();
        let start = (&raw const place.0).cast_mut().cast::<u8>();
        // SAFETY: aligned shared memory that is large enough, and used for nothing else.
        let (event, size) = unsafe { E::new(start, true) }.expect("an event");
        assert!(size <= size_of_val(place), "room for an event");
        // SAFETY: a process-shared event behind a pointer to shared memory.
        unsafe { Entrusted::<Box<dyn EventImpl>>::new(event) }
    };
    let (there, back) = (&make(), &make());
    let set = |event: &Entrusted<Box<dyn EventImpl>>| event.get().set(EventState::Signaled).expect("set");
    let wait = |event: &Entrusted<Box<dyn EventImpl>>| event.get().wait(Timeout::Infinite).expect("a wait");
    let ping = || {
        move || {
            set(there);
            wait(back);
        }
    };
    let pong = || {
        move || {
            wait(there);
            set(back);
        }
    };
    round_trips(Mode::Processes, places, ping, pong)
}

/// A channel for each way.
pub fn channels(places: [usize; 2]) -> f64 {
    let make = || Channel::new(4096).plain::<u64>().expect("a channel");
    let ((mut there, mut there_end), (mut back, mut back_end)) = (make(), make());
    let ping = || {
        let mut trip = 0;
        move || {
            trip += 1;
            there.send(trip).expect("a receiver");
            assert_eq!(back_end.recv().expect("an answer"), trip);
        }
    };
    let pong = || {
        move || {
            let trip = there_end.recv().expect("a ping");
            back.send(trip).expect("a receiver");
        }
    };
    round_trips(Mode::Processes, places, ping, pong)
}

/// Two ways, each with an end to write 8 bytes to and one to read them from.
pub fn descriptors(places: [usize; 2], way: fn() -> (OwnedFd, OwnedFd)) -> f64 {
    let ((there_end, there), (back_end, back)) = (way(), way());
    let send = |to: &OwnedFd, trip: u64| assert_eq!(write(to, &trip.to_ne_bytes()).expect("write"), 8);
    let receive = |from: &OwnedFd| {
        let mut bytes = [0; 8];
        assert_eq!(read(from.as_fd(), &mut bytes).expect("read"), 8);
        u64::from_ne_bytes(bytes)
    };
    let ping = || {
        let mut trip = 0;
        move || {
            trip += 1;
            send(&there, trip);
            assert_eq!(receive(&back_end), trip);
        }
    };
    let pong = || move || send(&back, receive(&there_end));
    round_trips(Mode::Processes, places, ping, pong)
}

/// The end to read from, and the one to write to.
pub fn a_pipe() -> (OwnedFd, OwnedFd) {
    pipe().expect("a pipe")
}

/// The same, of a Unix socket that keeps messages apart.
pub fn a_socket() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("two sockets")
}

/// POSIX message queues.
pub fn message_queues(places: [usize; 2]) -> f64 {
    let make = || MessageQueue::new(8, 8).expect("a queue");
    let (there, back) = (&make(), &make());
    let ping = || {
        let mut trip = 0_u64;
        move || {
            trip += 1;
            there.send(&trip.to_ne_bytes());
            let mut answer = [0; 8];
            back.receive(&mut answer);
            assert_eq!(u64::from_ne_bytes(answer), trip);
        }
    };
    let pong = || {
        move || {
            let mut trip = [0; 8];
            there.receive(&mut trip);
            back.send(&trip);
        }
    };
    round_trips(Mode::Processes, places, ping, pong)
}

pub fn ipc_channels(places: [usize; 2]) -> f64 {
    let make = || ipc_channel::ipc::bytes_channel().expect("a channel");
    let ((there, there_end), (back, back_end)) = (make(), make());
    let ping = || {
        let mut trip = 0_u64;
        move || {
            trip += 1;
            there.send(&trip.to_ne_bytes()).expect("send");
            assert_eq!(back_end.recv().expect("recv"), trip.to_ne_bytes());
        }
    };
    let pong = || move || back.send(&there_end.recv().expect("recv")).expect("send");
    round_trips(Mode::Processes, places, ping, pong)
}

/// crossbeam's channel, between threads.
pub fn crossbeam_channels(places: [usize; 2]) -> f64 {
    let make = || crossbeam_channel::bounded::<u64>(1024);
    let ((there, there_end), (back, back_end)) = (make(), make());
    let ping = || {
        let mut trip = 0;
        move || {
            trip += 1;
            there.send(trip).expect("send");
            assert_eq!(back_end.recv().expect("recv"), trip);
        }
    };
    let pong = || move || back.send(there_end.recv().expect("recv")).expect("send");
    round_trips(Mode::Threads, places, ping, pong)
}

/// std's, between threads.
pub fn std_channels(places: [usize; 2]) -> f64 {
    let make = || std::sync::mpsc::sync_channel::<u64>(1024);
    let ((there, there_end), (back, back_end)) = (make(), make());
    let ping = || {
        let mut trip = 0;
        move || {
            trip += 1;
            there.send(trip).expect("send");
            assert_eq!(back_end.recv().expect("recv"), trip);
        }
    };
    let pong = || move || back.send(there_end.recv().expect("recv")).expect("send");
    round_trips(Mode::Threads, places, ping, pong)
}

/// A lock and a condition of std's, between threads.
fn std_condition() -> f64 {
    let (turn, ways) = (std::sync::Mutex::new(0_u32), [(); 2].map(|()| std::sync::Condvar::new()));
    let wait_until = |own: u32| {
        let turn = turn.lock().expect("a lock");
        drop(ways[own as usize].wait_while(turn, |turn| *turn != own).expect("a lock"));
    };
    let give = |other: u32| {
        *turn.lock().expect("a lock") = other;
        ways[other as usize].notify_one();
    };
    let ping = || {
        give(1);
        wait_until(0);
    };
    let pong = || {
        wait_until(1);
        give(0);
    };
    round_trips(Mode::Threads, ON_ONE, || ping, || pong)
}

pub fn rows() -> Vec<Row> {
    let beside = |row: Row| row.beside(Limit, "bare futex", || futex::ping_pong(ON_ONE));
    vec![
        beside(Row::on_one("asleep/condition", condition))
            .beside(Rival, "pthread condition", pthread_condition)
            .beside(Threads, "std Condvar", std_condition)
            .beside(Rival, "Python Condition", || python(&["condition"])),
        beside(Row::on_one("asleep/event", || events(ON_ONE)))
            .beside(Rival, "raw_sync Event", || raw_sync_events::<RawEvent>(ON_ONE))
            .beside(Rival, "Python Event", || python(&["event"])),
        beside(Row::on_one("asleep/semaphore", || semaphore::ours(ON_ONE)))
            .beside(Rival, "sem_t", || semaphore::posix(ON_ONE))
            .beside(Rival, "Python Semaphore", || python(&["semaphores"])),
        beside(Row::on_one("asleep/channel", || channels(ON_ONE)))
            .beside(Rival, "pipe", || descriptors(ON_ONE, a_pipe))
            .beside(Rival, "Unix socket", || descriptors(ON_ONE, a_socket))
            .beside(Rival, "POSIX mq", || message_queues(ON_ONE))
            .beside(Rival, "ipc-channel", || ipc_channels(ON_ONE))
            .beside(Threads, "crossbeam channel", || crossbeam_channels(ON_ONE))
            .beside(Threads, "std mpsc", || std_channels(ON_ONE))
            .beside(Rival, "Python Queue", || python(&["trips", "queue", "1"]))
            .beside(Rival, "Python Pipe", || python(&["trips", "pipe", "1"])),
    ]
}
