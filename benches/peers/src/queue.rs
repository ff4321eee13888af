//! Messages from several to several others, dealt over the two CPUs.

use std::hint::spin_loop;

use crossbeam_queue::ArrayQueue;
use nix::sched::sched_yield;
use pshared::{Plain, Queue};

use crate::{
    channel::BATCH,
    drive::{Messages, effort},
    mq::MessageQueue,
    parties::{
        FIRST, LAST, Mode,
        Mode::{Processes, Threads as InThreads},
        Party, together,
    },
    python::python,
    rounds::{
        Kind::{Rival, Threads},
        Row,
    },
};

/// Messages that fit into each contender.
const CAP: usize = 1024;

/// Nanoseconds a message, when each of so many senders sends the same number, and as many receivers share them: about
/// as many as take one effort if a message takes `about` nanoseconds. A sender sends as many as it is told; a receiver
/// receives so many and gives their tally.
fn crowd<const W: usize, S: FnMut(usize), R: FnMut(usize) -> u64>(
    mode: Mode,
    pairs: usize,
    about: f64,
    send: impl Fn() -> S + Sync,
    receive: impl Fn() -> R + Sync,
) -> f64 {
    let all = effort().as_secs_f64() * 1e9 / about;
    // Whole batches, and all kinds of messages equally often.
    let each = ((all / pairs as f64) as usize).next_multiple_of(BATCH).max(BATCH);
    // So that few pages are met for the first time while the time is taken.
    let before = 4 * CAP / pairs;
    let (send, receive) = (&send, &receive);
    let sender = || -> Party<'_> {
        Box::new(move |clock| {
            let mut send = send();
            clock.meet();
            send(before);
            clock.start();
            send(each);
            0.0
        })
    };
    let receiver = || -> Party<'_> {
        Box::new(move |clock| {
            let mut receive = receive();
            clock.meet();
            let tally = receive(before);
            clock.start();
            (tally + receive(each)) as f64
        })
    };
    let parties = (0..2 * pairs).map(|own| if own < pairs { sender() } else { receiver() });
    let outcome = together(mode, &[FIRST, LAST], parties.collect());
    let tally: f64 = outcome.results.iter().sum();
    assert_eq!(tally, (Messages::<W>::sum(before + each) * pairs as u64) as f64, "every message once");
    outcome.wall / (each * pairs) as f64
}

fn ours<const W: usize>(pairs: usize) -> f64
where
    [u64; W]: Plain,
{
    let queue = &Queue::<[u64; W], _>::plain(CAP * (8 + 8 * W)).expect("a queue");
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| assert!(queue.send(*messages.next()).is_ok()))
    };
    let receive = || move |many| (0..many).map(|_| Messages::tally(&queue.recv().expect("a message"))).sum();
    crowd::<W, _, _>(Processes, pairs, 20.0 + W as f64, send, receive)
}

fn ours_in_batches<const W: usize>(pairs: usize) -> f64
where
    [u64; W]: Plain,
{
    let queue = &Queue::<[u64; W], _>::plain(CAP * (8 + 8 * W)).expect("a queue");
    let send = || {
        let (mut messages, mut batch) = (Messages::<W>::new(), Vec::with_capacity(BATCH));
        move |many| {
            for _ in 0..many / BATCH {
                batch.extend((0..BATCH).map(|_| *messages.next()));
                assert!(queue.send_many(&mut batch).is_ok());
            }
        }
    };
    let receive = || {
        let mut batch = Vec::with_capacity(BATCH);
        move |many| {
            let (mut received, mut tally) = (0, 0);
            while received < many {
                received += queue.recv_many(&mut batch, BATCH.min(many - received)).expect("messages");
                tally += batch.drain(..).map(|message| Messages::tally(&message)).sum::<u64>();
            }
            tally
        }
    };
    crowd::<W, _, _>(Processes, pairs, 8.0 + W as f64, send, receive)
}

/// Spins for a while, and then lets another have the CPU: there are more parties than CPUs.
fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut spins = 0;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        spins += 1;
        if spins % 128 == 0 {
            sched_yield().expect("sched_yield");
        }
        spin_loop();
    }
}

fn array_queue<const W: usize>(pairs: usize) -> f64 {
    let queue = &ArrayQueue::<[u64; W]>::new(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let message = messages.next();
                patiently(|| queue.push(*message).ok());
            }
        }
    };
    let receive = || move |many| (0..many).map(|_| Messages::tally(&patiently(|| queue.pop()))).sum();
    crowd::<W, _, _>(InThreads, pairs, 50.0 + W as f64, send, receive)
}

fn crossbeam<const W: usize>(pairs: usize) -> f64 {
    let (sender, receiver) = &crossbeam_channel::bounded::<[u64; W]>(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| sender.send(*messages.next()).expect("a receiver"))
    };
    let receive =
        || move |many| (0..many).map(|_| Messages::tally(&receiver.recv().expect("a message"))).sum();
    crowd::<W, _, _>(InThreads, pairs, 50.0 + W as f64, send, receive)
}

fn posix_mq<const W: usize>(pairs: usize) -> f64 {
    let queue = &MessageQueue::new(8 * W, CAP).expect("a queue");
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| queue.send(bytemuck::bytes_of(messages.next())))
    };
    let receive = || {
        let mut message = [0; W];
        move |many| {
            let mut one = || {
                queue.receive(bytemuck::bytes_of_mut(&mut message));
                Messages::tally(&message)
            };
            (0..many).map(|_| one()).sum()
        }
    };
    crowd::<W, _, _>(Processes, pairs, 800.0, send, receive)
}

/// One at a time.
fn row<const W: usize>(pairs: usize, size: &str) -> Row
where
    [u64; W]: Plain,
{
    let bytes = (8 * W).to_string();
    Row::apart(&format!("queue/{pairs} x {pairs}, {size}"), move || ours::<W>(pairs))
        .beside(Threads, "crossbeam ArrayQueue", move || array_queue::<W>(pairs))
        .beside(Threads, "crossbeam channel", move || crossbeam::<W>(pairs))
        .beside(Rival, "POSIX mq", move || posix_mq::<W>(pairs))
        .beside(Rival, "Python Queue", move || python(&["crowd", &pairs.to_string(), &bytes]))
}

/// Ours in batches, which the others have none of.
fn row_of_batches<const W: usize>(pairs: usize, size: &str) -> Row
where
    [u64; W]: Plain,
{
    Row::apart(&format!("queue/{pairs} x {pairs}, {size}, batches"), move || ours_in_batches::<W>(pairs))
        .beside(Threads, "crossbeam ArrayQueue", move || array_queue::<W>(pairs))
        .beside(Threads, "crossbeam channel", move || crossbeam::<W>(pairs))
}

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for pairs in [1, 2, 4] {
        rows.extend([row::<1>(pairs, "8 B"), row_of_batches::<1>(pairs, "8 B"), row::<128>(pairs, "1 KiB")]);
    }
    rows
}
