//! Messages from one to one other, on two CPUs: one at a time, in batches, and in place.

use std::{hint::spin_loop, os::fd::AsFd, sync::mpsc::sync_channel};

use crossbeam_queue::ArrayQueue;
use iceoryx2::prelude::ZeroCopySend;
use nix::{
    fcntl::{FcntlArg, fcntl},
    unistd::{read, write},
};
use pshared::{Channel, Plain};
use rtrb::RingBuffer;

use crate::{
    asleep::{a_pipe, a_socket},
    boost,
    drive::{Messages, stream},
    iceoryx::{Place, Receives, Sends},
    mq::MessageQueue,
    parties::Mode::{Processes, Threads as InThreads},
    python::python,
    ring::ring,
    rounds::{
        Kind::{Limit, Rival, Threads},
        Row,
    },
};

/// Messages that are committed and taken together.
pub const BATCH: usize = 32;

/// Messages between two looks at the clock.
pub fn block(width: usize) -> usize {
    match width {
        ..16 => 4096,
        16..1024 => 1024,
        _ => 64,
    }
}

/// Bytes of ours for as many messages as fit into the others; plain data takes no header.
const fn bytes_for(width: usize, many: usize) -> usize {
    many * (8 + 8 * width)
}

fn ours<const W: usize, const CAP: usize>() -> f64
where
    [u64; W]: Plain,
{
    let (mut sender, mut receiver) = Channel::new(8 * W * CAP).plain::<[u64; W]>().expect("a channel");
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| assert!(sender.send(*messages.next()).is_ok()))
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| messages.check(&receiver.recv().expect("a message")))
    };
    stream(Processes, block(W), send, receive)
}

fn ours_in_batches<const W: usize, const CAP: usize>() -> f64
where
    [u64; W]: Plain,
{
    let (mut sender, mut receiver) = Channel::new(8 * W * CAP).plain::<[u64; W]>().expect("a channel");
    let send = || {
        let (mut messages, mut batch) = (Messages::<W>::new(), Vec::with_capacity(BATCH));
        move |many| {
            for _ in 0..many / BATCH {
                batch.extend((0..BATCH).map(|_| *messages.next()));
                assert!(sender.send_many(&mut batch).is_ok());
            }
        }
    };
    let receive = || {
        let (mut messages, mut batch) = (Messages::<W>::new(), Vec::with_capacity(BATCH));
        move |many| {
            let mut received = 0;
            while received < many {
                received += receiver.recv_many(&mut batch, BATCH.min(many - received)).expect("messages");
                batch.drain(..).for_each(|message| messages.check(&message));
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

/// Bytes that are copied into the ring, and out of it, by the user.
fn ours_by_slices<const W: usize, const CAP: usize>() -> f64 {
    let (mut sender, mut receiver) = Channel::new(bytes_for(W, CAP)).bytes().expect("a channel");
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let mut slot = sender.reserve(8 * W).expect("room");
                slot.copy_from_slice(bytemuck::bytes_of(messages.next()));
                slot.commit().expect("a place in the ring");
            }
        }
    };
    let receive = || {
        let (mut messages, mut copy) = (Messages::<W>::new(), Box::new([0; W]));
        move |many| {
            for _ in 0..many {
                let message = receiver.read().expect("a message");
                bytemuck::bytes_of_mut(&mut *copy).copy_from_slice(&message);
                drop(message);
                messages.check(&copy);
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

/// Both sides touch one byte, as iceoryx2's do.
fn ours_in_place<const W: usize, const CAP: usize>() -> f64 {
    let (mut sender, mut receiver) = Channel::new(bytes_for(W, CAP)).bytes().expect("a channel");
    let send = || {
        let mut sent = 0_u8;
        move |many| {
            for _ in 0..many {
                let mut slot = sender.reserve(8 * W).expect("room");
                sent = sent.wrapping_add(1);
                slot[0] = sent;
                slot.commit().expect("a place in the ring");
            }
        }
    };
    let receive = || {
        let mut received = 0_u8;
        move |many| {
            for _ in 0..many {
                received = received.wrapping_add(1);
                assert_eq!(receiver.read().expect("a message")[0], received);
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

/// The ring that cannot sleep; it publishes after so many messages.
fn bare<const W: usize, const CAP: usize>(batch: usize) -> f64 {
    let (mut sender, mut receiver) = ring::<W, CAP>();
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many / batch {
                (0..batch).for_each(|_| sender.write(messages.next()));
                sender.publish();
            }
        }
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many / batch {
                (0..batch).for_each(|_| messages.check(&receiver.read()));
                receiver.give_back();
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

fn rtrb<const W: usize, const CAP: usize>() -> f64 {
    let (mut sender, mut receiver) = RingBuffer::<[u64; W]>::new(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let mut message = *messages.next();
                while let Err(rtrb::PushError::Full(back)) = sender.push(message) {
                    message = back;
                    spin_loop();
                }
            }
        }
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let message = loop {
                    match receiver.pop() {
                        Ok(message) => break message,
                        Err(rtrb::PopError::Empty) => spin_loop(),
                    }
                };
                messages.check(&message);
            }
        }
    };
    stream(InThreads, block(W), send, receive)
}

fn rtrb_chunks<const W: usize, const CAP: usize>() -> f64 {
    let (mut sender, mut receiver) = RingBuffer::<[u64; W]>::new(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many / BATCH {
                while sender.slots() < BATCH {
                    spin_loop();
                }
                let chunk = sender.write_chunk_uninit(BATCH).expect("room");
                chunk.fill_from_iter((0..BATCH).map(|_| *messages.next()));
            }
        }
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            let mut received = 0;
            while received < many {
                let ready = receiver.slots().min(BATCH).min(many - received);
                if ready == 0 {
                    spin_loop();
                    continue;
                }
                let chunk = receiver.read_chunk(ready).expect("messages");
                chunk.into_iter().for_each(|message| messages.check(&message));
                received += ready;
            }
        }
    };
    stream(InThreads, block(W), send, receive)
}

fn array_queue<const W: usize, const CAP: usize>() -> f64 {
    let queue = &ArrayQueue::<[u64; W]>::new(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let mut message = *messages.next();
                while let Err(back) = queue.push(message) {
                    message = back;
                    spin_loop();
                }
            }
        }
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let message = loop {
                    match queue.pop() {
                        Some(message) => break message,
                        None => spin_loop(),
                    }
                };
                messages.check(&message);
            }
        }
    };
    stream(InThreads, block(W), send, receive)
}

fn crossbeam<const W: usize, const CAP: usize>() -> f64 {
    let (sender, receiver) = crossbeam_channel::bounded::<[u64; W]>(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| sender.send(*messages.next()).expect("a receiver"))
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| messages.check(&receiver.recv().expect("a message")))
    };
    stream(InThreads, block(W), send, receive)
}

fn std_mpsc<const W: usize, const CAP: usize>() -> f64 {
    let (sender, receiver) = sync_channel::<[u64; W]>(CAP);
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| sender.send(*messages.next()).expect("a receiver"))
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| messages.check(&receiver.recv().expect("a message")))
    };
    stream(InThreads, block(W), send, receive)
}

fn iceoryx<const W: usize, const CAP: usize>() -> f64
where
    [u64; W]: ZeroCopySend,
{
    let place = &Place::new();
    let send = || {
        let (sender, mut messages) = (Sends::<[u64; W]>::new(place, CAP), Messages::<W>::new());
        move |many| (0..many).for_each(|_| sender.copy(*messages.next()))
    };
    let receive = || {
        let (receiver, mut messages) = (Receives::<[u64; W]>::new(place, CAP), Messages::<W>::new());
        move |many| (0..many).for_each(|_| receiver.read(|message| messages.check(message)))
    };
    stream(Processes, block(W), send, receive)
}

fn iceoryx_loan<const W: usize, const CAP: usize>() -> f64
where
    [u64; W]: ZeroCopySend,
{
    let place = &Place::new();
    let send = || {
        let (sender, mut sent) = (Sends::<[u64; W]>::new(place, CAP), 0_u8);
        move |many| {
            for _ in 0..many {
                sent = sent.wrapping_add(1);
                // SAFETY: the memory is mapped from a file, so whatever it holds is bytes, and words are made of those.
                unsafe { sender.loan(|memory| memory.cast::<u8>().write(sent)) };
            }
        }
    };
    let receive = || {
        let (receiver, mut received) = (Receives::<[u64; W]>::new(place, CAP), 0_u8);
        move |many| {
            for _ in 0..many {
                received = received.wrapping_add(1);
                receiver.read(|message| assert_eq!(message[0] as u8, received));
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

fn ipc_channel<const W: usize>() -> f64 {
    let (sender, receiver) = ipc_channel::ipc::bytes_channel().expect("a channel");
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            (0..many).for_each(|_| sender.send(bytemuck::bytes_of(messages.next())).expect("a receiver"));
        }
    };
    let receive = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| messages.check_bytes(&receiver.recv().expect("a message")))
    };
    stream(Processes, block(W), send, receive)
}

/// A pipe, whose buffer is made as large as a user may, or a socket.
fn descriptor<const W: usize>(is_pipe: bool) -> f64 {
    let (from, to) = if is_pipe { a_pipe() } else { a_socket() };
    if is_pipe {
        fcntl(&to, FcntlArg::F_SETPIPE_SZ(1 << 20)).expect("a larger pipe");
    }
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                let mut rest = bytemuck::bytes_of(messages.next());
                while !rest.is_empty() {
                    rest = &rest[write(&to, rest).expect("write")..];
                }
            }
        }
    };
    let receive = || {
        let (mut messages, mut message) = (Messages::<W>::new(), Box::new([0; W]));
        move |many| {
            for _ in 0..many {
                let mut rest = bytemuck::bytes_of_mut(&mut *message);
                while !rest.is_empty() {
                    let size = read(from.as_fd(), rest).expect("read");
                    rest = &mut rest[size..];
                }
                messages.check(&message);
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

fn posix_mq<const W: usize, const CAP: usize>() -> f64 {
    let queue = &MessageQueue::new(8 * W, CAP).expect("a queue");
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| (0..many).for_each(|_| queue.send(bytemuck::bytes_of(messages.next())))
    };
    let receive = || {
        let (mut messages, mut message) = (Messages::<W>::new(), Box::new([0; W]));
        move |many| {
            for _ in 0..many {
                queue.receive(bytemuck::bytes_of_mut(&mut *message));
                messages.check(&message);
            }
        }
    };
    stream(Processes, block(W), send, receive)
}

/// All rivals of messages of one size.
fn beside<const W: usize, const CAP: usize>(row: Row) -> Row
where
    [u64; W]: ZeroCopySend,
{
    let size = (8 * W).to_string();
    let of_python = move |kind: &'static str| {
        let size = size.clone();
        move || python(&["stream", kind, &size])
    };
    let row = row
        .beside(Limit, "bare ring", || bare::<W, CAP>(1))
        .beside(Threads, "rtrb", rtrb::<W, CAP>)
        .beside(Threads, "crossbeam ArrayQueue", array_queue::<W, CAP>)
        .beside(Threads, "crossbeam channel", crossbeam::<W, CAP>)
        .beside(Threads, "std mpsc", std_mpsc::<W, CAP>)
        .beside(Rival, "iceoryx2", iceoryx::<W, CAP>)
        .beside(Rival, "ipc-channel", ipc_channel::<W>)
        .beside(Rival, "pipe", || descriptor::<W>(true))
        .beside(Rival, "Unix socket", || descriptor::<W>(false))
        .beside(Rival, "Python Queue", of_python("queue"))
        .beside(Rival, "Python Pipe", of_python("pipe"));
    let row = boost::message_queue::<W, CAP>(row);
    match MessageQueue::new(8 * W, 1) {
        Some(_) => row.beside(Rival, "POSIX mq", posix_mq::<W, CAP>),
        None => row.without("POSIX mq", "the kernel grants no messages of that size"),
    }
}

/// What is compared in batches.
fn beside_in_batches<const W: usize, const CAP: usize>(row: Row) -> Row {
    row.beside(Limit, "bare ring", || bare::<W, CAP>(1))
        .beside(Limit, "bare ring in batches", || bare::<W, CAP>(BATCH))
        .beside(Threads, "rtrb", rtrb::<W, CAP>)
        .beside(Threads, "rtrb in chunks", rtrb_chunks::<W, CAP>)
}

pub fn rows() -> Vec<Row> {
    vec![
        beside::<1, 1024>(Row::apart("channel/8 B", ours::<1, 1024>)),
        beside::<8, 1024>(Row::apart("channel/64 B", ours::<8, 1024>)),
        beside::<128, 1024>(Row::apart("channel/1 KiB", ours::<128, 1024>)),
        beside_in_batches::<1, 1024>(Row::apart("channel/8 B, batches", ours_in_batches::<1, 1024>)),
        beside_in_batches::<8, 1024>(Row::apart("channel/64 B, batches", ours_in_batches::<8, 1024>)),
        beside_in_batches::<128, 1024>(Row::apart("channel/1 KiB, batches", ours_in_batches::<128, 1024>)),
        beside::<8192, 64>(Row::apart("channel/64 KiB, copied", ours_by_slices::<8192, 64>)).beside(
            crate::rounds::Kind::Ours,
            "our send and recv by value",
            ours::<8192, 64>,
        ),
        Row::apart("channel/64 KiB, in place", ours_in_place::<8192, 64>)
            .beside(Limit, "bare ring", || bare::<8192, 64>(1))
            .beside(Rival, "iceoryx2 loan", iceoryx_loan::<8192, 64>),
    ]
}
