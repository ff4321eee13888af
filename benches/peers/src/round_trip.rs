//! Round trips between two processes that spin, each on its CPU; those that cannot spin sleep.

use std::{hint::spin_loop, time::Duration};

use crossbeam_queue::ArrayQueue;
use raw_sync::events::BusyEvent;
use rtrb::RingBuffer;

use crate::{
    asleep::{
        a_pipe, a_socket, channels, crossbeam_channels, descriptors, events, ipc_channels, message_queues,
        raw_sync_events, std_channels,
    },
    distance,
    drive::{APART, effort, round_trips},
    futex,
    iceoryx::{Place, Receives, Sends},
    parties::Mode::{Processes, Threads as InThreads},
    python::python,
    rounds::{
        Kind::{Limit, Rival, Threads},
        Row,
    },
};

fn rtrb() -> f64 {
    let ((mut there, mut there_end), (mut back, mut back_end)) =
        (RingBuffer::new(1024), RingBuffer::new(1024));
    let ping = || {
        let mut trip = 0_u64;
        move || {
            trip += 1;
            there.push(trip).expect("room");
            let answer = loop {
                match back_end.pop() {
                    Ok(answer) => break answer,
                    Err(_) => spin_loop(),
                }
            };
            assert_eq!(answer, trip);
        }
    };
    let pong = || {
        move || {
            let trip: u64 = loop {
                match there_end.pop() {
                    Ok(trip) => break trip,
                    Err(_) => spin_loop(),
                }
            };
            back.push(trip).expect("room");
        }
    };
    round_trips(InThreads, APART, ping, pong)
}

fn array_queue() -> f64 {
    let (there, back) = (&ArrayQueue::new(1024), &ArrayQueue::new(1024));
    let pop = |queue: &ArrayQueue<u64>| loop {
        match queue.pop() {
            Some(trip) => break trip,
            None => spin_loop(),
        }
    };
    let ping = || {
        let mut trip = 0_u64;
        move || {
            trip += 1;
            there.push(trip).expect("room");
            assert_eq!(pop(back), trip);
        }
    };
    let pong = || move || back.push(pop(there)).expect("room");
    round_trips(InThreads, APART, ping, pong)
}

fn iceoryx() -> f64 {
    let (there, back) = (&Place::new(), &Place::new());
    let ping = || {
        let (sender, receiver) = (Sends::<u64>::new(there, 16), Receives::<u64>::new(back, 16));
        let mut trip = 0;
        move || {
            trip += 1;
            sender.copy(trip);
            receiver.read(|&answer| assert_eq!(answer, trip));
        }
    };
    let pong = || {
        // The other way round than above: each waits for its counterpart.
        let (receiver, sender) = (Receives::<u64>::new(there, 16), Sends::<u64>::new(back, 16));
        move || sender.copy(receiver.read(|&trip| trip))
    };
    round_trips(Processes, APART, ping, pong)
}

fn bare() -> f64 {
    distance::round_trip(effort().max(Duration::from_millis(1)))
}

pub fn rows() -> Vec<Row> {
    let beside = |row: Row| {
        row.beside(Limit, "two bare atomics", bare).beside(Limit, "bare futex", || futex::ping_pong(APART))
    };
    vec![
        beside(Row::apart("round trip/event", || events(APART)))
            .beside(Rival, "raw_sync BusyEvent", || raw_sync_events::<BusyEvent>(APART)),
        beside(Row::apart("round trip/channel", || channels(APART)))
            .beside(Threads, "rtrb", rtrb)
            .beside(Threads, "crossbeam ArrayQueue", array_queue)
            .beside(Threads, "crossbeam channel", || crossbeam_channels(APART))
            .beside(Threads, "std mpsc", || std_channels(APART))
            .beside(Rival, "iceoryx2", iceoryx)
            .beside(Rival, "ipc-channel", || ipc_channels(APART))
            .beside(Rival, "pipe", || descriptors(APART, a_pipe))
            .beside(Rival, "Unix socket", || descriptors(APART, a_socket))
            .beside(Rival, "POSIX mq", || message_queues(APART))
            .beside(Rival, "Python Queue", || python(&["trips", "queue", "2"]))
            .beside(Rival, "Python Pipe", || python(&["trips", "pipe", "2"])),
    ]
}
