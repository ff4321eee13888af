//! What `pipe` and `duplex` promise, with really forked children; first what CPython's suite pins, with its origins.
//!
//! CPython: `_TestConnection`, `_TestPoll` and `_TestPollEintr` of `test/_test_multiprocessing.py`. Left out:
//! `test_fd_transfer`, `test_large_fd_transfer` and `test_missing_fd_transfer` (a connection carries no descriptors of
//! users), and what `test_connection` and `test_sendbytes` do with arrays and offsets (a slice says it).

mod support;

use std::{
    io::ErrorKind,
    os::fd::AsFd,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        wait::WaitStatus,
    },
    unistd::{Pid, getpid, getppid},
};
use pshared::{
    Atomic, Connection, Deadline, Event, PipeReader, PipeRecvError, PipeSendError, Process, duplex, pipe,
};
use support::{Child, fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        cpython_connection,
        cpython_duplex_false,
        cpython_spawn_close,
        cpython_sendbytes,
        cpython_context,
        cpython_poll_empty_string,
        cpython_poll_strings,
        cpython_poll_boundaries,
        cpython_poll_dont_merge,
        cpython_poll_eintr,
        a_killed_owner_is_the_end_though_others_have_copies,
        a_dropped_end_is_the_end_though_others_have_copies,
        an_end_that_nobody_used_is_there_as_long_as_somebody_has_a_copy,
        what_was_sent_before_the_death_is_received_first,
        a_sender_that_waits_for_room_hears_of_the_death,
        a_sender_is_told_at_once_when_the_receiver_is_dead,
        the_copies_of_an_end_that_is_used_are_void,
        of_many_who_use_an_end_at_once_one_has_it,
        one_that_comes_and_goes_at_once_is_noticed,
        a_message_that_is_too_long_stays_readable,
        messages_of_all_lengths_arrive_whole,
        a_killed_sender_leaves_whole_messages,
        threads_share_an_end,
        timeouts_last_at_least_so_long,
        a_full_connection_refuses_and_keeps_what_it_has,
        the_descriptor_is_ready_when_there_is_a_message_and_at_the_end,
        without_a_descriptor_to_spare_a_message_stays,
        a_message_of_another_type_is_an_error_and_gone,
        ten_thousand_deaths_leave_nothing_behind,
        errors_speak,
        debug_tells_whose_it_is,
    ])
}

const WHILE: Duration = Duration::from_millis(15);

/// Sends back what it receives from a connection, until an empty message comes.
fn echo(connection: Connection) {
    loop {
        let bytes = connection.recv_bytes(usize::MAX).unwrap();
        if bytes.is_empty() {
            return;
        }
        connection.send_bytes(&bytes).unwrap();
    }
}

/// Has a child that only has copies of whatever is open here. It lives until it is dropped.
fn bystander() -> Child {
    let child = fork_child(|| {
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    });
    until(|| support::is_asleep(child.pid()));
    child
}

/// `_TestConnection.test_connection`.
fn cpython_connection() {
    let (conn, there) = duplex().unwrap();
    let child = Process::spawn(move || echo(there)).unwrap();
    let list = vec![1, 2, 3];
    conn.send(&list).unwrap();
    assert_eq!(conn.recv::<Vec<i32>>().unwrap(), list);
    let longer = vec![7_u8; 4 << 20];
    conn.send_bytes(&longer).unwrap();
    assert!(conn.recv_bytes(usize::MAX).unwrap() == longer);
    assert!(!conn.poll(Some(Duration::ZERO)).unwrap());
    let start = Instant::now();
    assert!(!conn.poll(Some(WHILE)).unwrap());
    assert!(start.elapsed() >= WHILE);
    conn.send("hello").unwrap();
    assert!(conn.poll(Some(Duration::from_secs(50))).unwrap());
    assert_eq!(conn.recv::<String>().unwrap(), "hello");
    conn.send_bytes(b"").unwrap();
    child.join().unwrap();
    assert!(conn.poll(None).unwrap());
    assert!(matches!(conn.recv::<u8>(), Err(PipeRecvError::Disconnected)));
    assert!(matches!(conn.send(&1), Err(PipeSendError::Disconnected)));
}

/// `_TestConnection.test_duplex_false`: there the wrong direction raises; here it does not compile.
fn cpython_duplex_false() {
    let (reader, writer) = pipe().unwrap();
    writer.send(&1).unwrap();
    assert_eq!(reader.recv::<i32>().unwrap(), 1);
}

/// `_TestConnection.test_spawn_close`: the parent closes its copy as soon as the child is forked.
fn cpython_spawn_close() {
    let (conn, there) = duplex().unwrap();
    let child = Process::spawn(|| echo(there)).unwrap();
    conn.send_bytes(b"hello").unwrap();
    assert_eq!(conn.recv_bytes(5).unwrap(), b"hello");
    conn.send_bytes(b"").unwrap();
    conn.close();
    child.join().unwrap();
}

/// `_TestConnection.test_sendbytes`: parts of a text, and an empty one.
fn cpython_sendbytes() {
    let (a, b) = duplex().unwrap();
    let message = b"abcdefghijklmnopqrstuvwxyz";
    for part in [&message[..], &message[5..], &message[7..15], &message[26..], b""] {
        a.send_bytes(part).unwrap();
        assert_eq!(b.recv_bytes(64).unwrap(), part);
    }
}

/// `_TestConnection.test_context`: an end is closed where its scope ends.
fn cpython_context() {
    let (a, b) = duplex().unwrap();
    {
        let a = a;
        a.send(&1729).unwrap();
        assert_eq!(b.recv::<i32>().unwrap(), 1729);
    }
    assert!(matches!(b.recv::<i32>(), Err(PipeRecvError::Disconnected)));
}

/// `_TestPoll.test_empty_string`: an empty message is one.
fn cpython_poll_empty_string() {
    let (a, b) = duplex().unwrap();
    assert!(!a.poll(Some(Duration::ZERO)).unwrap());
    b.send_bytes(b"").unwrap();
    assert!(a.poll(Some(Duration::ZERO)).unwrap());
    assert!(a.poll(Some(Duration::ZERO)).unwrap());
    assert!(a.recv_bytes(0).unwrap().is_empty());
}

/// `_TestPoll.test_strings`.
fn cpython_poll_strings() {
    let strings: [&[u8]; 7] = [b"hello", b"", b"a", b"b", b"", b"bye", b""];
    let (a, b) = duplex().unwrap();
    let child = fork_child(|| strings.iter().for_each(|string| b.send_bytes(string).unwrap()));
    for string in strings {
        assert!(a.poll(None).unwrap());
        assert_eq!(a.recv_bytes(5).unwrap(), string);
    }
    child.join_ok();
}

/// `_TestPoll.test_boundaries`: what is sent by two sends comes by two receives, however small the first.
fn cpython_poll_boundaries() {
    let (reader, writer) = pipe().unwrap();
    let first_is_there = Event::new().unwrap();
    let child = fork_child(|| {
        writer.send_bytes(b"first").unwrap();
        first_is_there.set();
        writer.send_bytes(b"second").unwrap();
    });
    first_is_there.wait();
    assert!(reader.poll(None).unwrap());
    assert_eq!(reader.recv_bytes(64).unwrap(), b"first");
    assert_eq!(reader.recv_bytes(64).unwrap(), b"second");
    child.join_ok();
}

/// `_TestPoll.test_dont_merge`.
fn cpython_poll_dont_merge() {
    let (a, b) = duplex().unwrap();
    assert!(!a.poll(Some(Duration::ZERO)).unwrap());
    let child = fork_child(|| {
        for byte in [b"a", b"b", b"c", b"d"] {
            b.send_bytes(byte).unwrap();
        }
    });
    for byte in [b"a", b"b", b"c", b"d"] {
        assert!(a.poll(Some(Duration::from_secs(50))).unwrap());
        assert_eq!(a.recv_bytes(64).unwrap(), byte);
    }
    child.join_ok();
}

extern "C" fn nothing(_: i32) {}

/// `_TestPollEintr.test_poll_eintr`: a signal that is handled does not end a wait.
fn cpython_poll_eintr() {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let (reader, writer) = pipe().unwrap();
    let child = fork_child(|| {
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(1));
            kill(getppid(), Signal::SIGUSR1).unwrap();
        }
        writer.send(&7).unwrap();
    });
    assert!(reader.poll(None).unwrap());
    assert_eq!(reader.recv::<i32>().unwrap(), 7);
    child.join_ok();
}

fn a_killed_owner_is_the_end_though_others_have_copies() {
    for owner_is_asleep in [true, false] {
        let (a, b) = duplex().unwrap();
        let early = bystander();
        let owner = fork_child(|| {
            b.send(&1).unwrap();
            if owner_is_asleep {
                let _ = b.recv::<u8>();
            }
            loop {
                thread::sleep(Duration::from_secs(60));
            }
        });
        assert_eq!(a.recv::<i32>().unwrap(), 1);
        let late = bystander();
        let start = Instant::now();
        let waiter = thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let said = a.recv::<i32>();
                assert!(start.elapsed() >= WHILE);
                said
            });
            thread::sleep(2 * WHILE);
            owner.kill();
            waiter.join().unwrap()
        });
        assert!(matches!(waiter, Err(PipeRecvError::Disconnected)));
        assert!(matches!(a.send(&1), Err(PipeSendError::Disconnected)));
        assert!(a.poll(None).unwrap());
        // This process has a copy of that end as well.
        assert!(matches!(b.send(&1), Err(PipeSendError::Taken)));
        early.kill();
        late.kill();
    }
}

fn a_dropped_end_is_the_end_though_others_have_copies() {
    let (a, b) = duplex().unwrap();
    let early = bystander();
    b.send(&1).unwrap();
    let late = bystander();
    drop(b);
    assert_eq!(a.recv::<i32>().unwrap(), 1);
    assert!(matches!(a.recv::<i32>(), Err(PipeRecvError::Disconnected)));
    assert!(matches!(a.send(&1), Err(PipeSendError::Disconnected)));
    early.kill();
    late.kill();
}

fn an_end_that_nobody_used_is_there_as_long_as_somebody_has_a_copy() {
    let (a, b) = duplex().unwrap();
    let copy = bystander();
    drop(b);
    assert!(matches!(a.recv_timeout::<i32>(WHILE), Err(PipeRecvError::TimedOut)));
    a.send(&1).unwrap();
    copy.kill();
    assert!(matches!(a.recv::<i32>(), Err(PipeRecvError::Disconnected)));
    assert!(matches!(a.send(&1), Err(PipeSendError::Disconnected)));
}

fn what_was_sent_before_the_death_is_received_first() {
    let (reader, writer) = pipe().unwrap();
    let sent = Event::new().unwrap();
    let sender = fork_child(|| {
        (0..50_u32).for_each(|i| writer.send(&i).unwrap());
        writer.send_bytes(&[1; 1 << 20]).unwrap();
        sent.set();
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    });
    sent.wait();
    sender.kill();
    (0..50_u32).for_each(|i| assert_eq!(reader.recv::<u32>().unwrap(), i));
    assert!(reader.recv_bytes(usize::MAX).unwrap() == [1; 1 << 20]);
    assert!(matches!(reader.recv::<u32>(), Err(PipeRecvError::Disconnected)));
}

/// Sends until there is no room.
fn fill<D: pshared::direction::Writes>(writer: &Connection<D>) -> usize {
    (0..).take_while(|_| writer.try_send_bytes(&[0; 1000]).is_ok()).count()
}

fn a_sender_that_waits_for_room_hears_of_the_death() {
    for receiver_has_used_it in [true, false] {
        let (reader, writer) = pipe().unwrap();
        let (used, copy) = (Event::new().unwrap(), bystander());
        let receiver = fork_child(|| {
            if receiver_has_used_it {
                assert!(!reader.poll(Some(Duration::ZERO)).unwrap());
            }
            used.set();
            loop {
                thread::sleep(Duration::from_secs(60));
            }
        });
        used.wait();
        assert!(fill(&writer) > 10);
        let said = thread::scope(|scope| {
            let sender = scope.spawn(|| writer.send_bytes(&[0; 1000]));
            thread::sleep(WHILE);
            assert!(!sender.is_finished());
            receiver.kill();
            if !receiver_has_used_it {
                // Others could still use it; this process does.
                assert!(!sender.is_finished());
                assert!(reader.poll(Some(Duration::ZERO)).unwrap());
                drop(reader);
            }
            sender.join().unwrap()
        });
        assert!(matches!(said, Err(PipeSendError::Disconnected)), "{said:?}");
        copy.kill();
    }
}

fn a_sender_is_told_at_once_when_the_receiver_is_dead() {
    let (reader, writer) = pipe().unwrap();
    let copy = bystander();
    let receiver = fork_child(|| {
        let _ = reader.recv::<i32>();
        let _ = reader.recv::<i32>();
    });
    writer.send(&1).unwrap();
    until(|| support::is_asleep(receiver.pid()));
    receiver.kill();
    assert!(matches!(writer.try_send(&2), Err(PipeSendError::Disconnected)));
    assert!(matches!(writer.send_timeout(&2, WHILE), Err(PipeSendError::Disconnected)));
    copy.kill();
}

fn the_copies_of_an_end_that_is_used_are_void() {
    let (a, b) = duplex().unwrap();
    b.send(&1).unwrap();
    fork_child(|| {
        assert!(matches!(b.send(&2), Err(PipeSendError::Taken)));
        assert!(matches!(b.try_recv::<i32>(), Err(PipeRecvError::Taken)));
        assert!(matches!(b.poll(None), Err(PipeRecvError::Taken)));
        // SAFETY: the child ends without touching `b` again.
        drop(unsafe { std::ptr::read(&b) });
        // This one is nobody's yet.
        assert_eq!(a.recv::<i32>().unwrap(), 1);
    })
    .join_ok();
    assert!(matches!(a.recv::<i32>(), Err(PipeRecvError::Taken)));
    assert!(matches!(b.send(&2), Err(PipeSendError::Disconnected)));
}

fn of_many_who_use_an_end_at_once_one_has_it() {
    for _ in 0..50 {
        let (reader, writer) = pipe().unwrap();
        let (start, owners) = (Event::new().unwrap(), Atomic::new(0_u32).unwrap());
        let children: Vec<_> = (0..4)
            .map(|i| {
                fork_child({
                    let (writer, start, owners) = (&writer, &start, &owners);
                    move || {
                        start.wait();
                        match writer.send(&i) {
                            Ok(()) => drop(owners.fetch_add(1)),
                            Err(PipeSendError::Taken) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        start.set();
        assert!((0..4).contains(&reader.recv::<i32>().unwrap()));
        children.into_iter().for_each(|child| child.join_ok());
        assert_eq!(owners.get(), 1);
        // The owner has ended, and the others too: this process's copy does not count.
        assert!(matches!(reader.recv::<i32>(), Err(PipeRecvError::Disconnected)));
    }
}

/// The other end looks at whose the end is, and whether that one lives, while both change.
fn one_that_comes_and_goes_at_once_is_noticed() {
    for round in 0..3_000_u32 {
        let (a, b) = duplex().unwrap();
        let child = fork_child(|| {
            let _ = b.poll(Some(Duration::ZERO));
        });
        if round % 2 == 0 {
            assert!(matches!(a.recv::<u32>(), Err(PipeRecvError::Disconnected)));
        } else {
            let refused = loop {
                if let Err(error) = a.send(&round) {
                    break error;
                }
            };
            assert!(matches!(refused, PipeSendError::Disconnected), "{refused:?}");
        }
        child.join_ok();
    }
}

fn a_message_that_is_too_long_stays_readable() {
    let (reader, writer) = pipe().unwrap();
    for len in [100, 70_000] {
        writer.send_bytes(&vec![7; len]).unwrap();
        for _ in 0..3 {
            match reader.recv_bytes(len - 1) {
                Err(PipeRecvError::TooLong { len: is, limit }) => assert_eq!((is, limit), (len, len - 1)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(reader.recv_bytes(len).unwrap(), vec![7; len]);
    }
}

fn messages_of_all_lengths_arrive_whole() {
    let (reader, writer) = pipe().unwrap();
    let lengths = [0, 1, 15, 16, 17, 4095, 65_535, 65_536, 65_537, 1 << 20, 5_000_001];
    let child = fork_child(|| {
        for (i, &len) in lengths.iter().enumerate() {
            let bytes: Vec<u8> = (0..len).map(|at| (at + i) as u8).collect();
            writer.send_bytes(&bytes).unwrap();
        }
    });
    for (i, &len) in lengths.iter().enumerate() {
        let bytes = reader.recv_bytes(usize::MAX).unwrap();
        assert_eq!(bytes.len(), len);
        assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == (at + i) as u8));
    }
    child.join_ok();
}

fn a_killed_sender_leaves_whole_messages() {
    for round in 0..60 {
        let (reader, writer) = pipe().unwrap();
        let turns = Atomic::new(0_u64).unwrap();
        let sender = fork_child(|| {
            for i in 0_u64.. {
                let len = if i % 7 == 3 { 70_000 } else { 8 * (1 + i as usize % 50) };
                writer.send_bytes(&i.to_ne_bytes().repeat(len / 8)).unwrap();
                turns.set(i);
            }
        });
        let mut next = 0_u64;
        let mut take = || match reader.recv_bytes(usize::MAX) {
            Ok(bytes) => {
                assert!(bytes.chunks_exact(8).all(|word| word == next.to_ne_bytes()), "torn");
                next += 1;
                true
            }
            Err(PipeRecvError::Disconnected) => false,
            Err(error) => panic!("{error}"),
        };
        (0..=round).for_each(|_| assert!(take()));
        sender.kill();
        while take() {}
        // All that was accepted, and at most the one that was just being accepted.
        assert!(next - 1 == turns.get() || next - 2 == turns.get(), "{next} {}", turns.get());
    }
}

fn threads_share_an_end() {
    const EACH: u64 = 2_000;
    let (a, b) = duplex().unwrap();
    let sum = Atomic::new(0_u64).unwrap();
    let child = fork_child(|| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        sum.fetch_add(b.recv::<u64>().unwrap());
                    }
                });
            }
        });
    });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (1..=EACH).for_each(|i| a.send(&i).unwrap()));
        }
    });
    child.join_ok();
    assert_eq!(sum.get(), EACH * (EACH + 1));
}

fn timeouts_last_at_least_so_long() {
    let (a, b) = duplex().unwrap();
    for used in [false, true] {
        let start = Instant::now();
        assert!(matches!(a.recv_timeout::<u8>(WHILE), Err(PipeRecvError::TimedOut)));
        assert!(matches!(a.recv_deadline::<u8>(Deadline::after(WHILE)), Err(PipeRecvError::TimedOut)));
        assert!(matches!(a.recv_bytes_timeout(9, WHILE), Err(PipeRecvError::TimedOut)));
        assert!(!a.poll(Some(WHILE)).unwrap());
        assert!(!a.poll_deadline(Deadline::after(WHILE)).unwrap());
        assert!(start.elapsed() >= 5 * WHILE);
        assert!(matches!(a.try_recv::<u8>(), Err(PipeRecvError::Empty)));
        assert!(matches!(a.try_recv_bytes(9), Err(PipeRecvError::Empty)));
        if !used {
            assert!(!b.poll(Some(Duration::ZERO)).unwrap());
        }
    }
    fill(&a);
    let start = Instant::now();
    assert!(matches!(a.send_timeout(&[0_u8; 32].repeat(40), WHILE), Err(PipeSendError::TimedOut)));
    assert!(matches!(a.send_bytes_timeout(&[0; 1000], WHILE), Err(PipeSendError::TimedOut)));
    let deadline = Deadline::after(WHILE);
    assert!(matches!(a.send_bytes_deadline(&[0; 1000], deadline), Err(PipeSendError::TimedOut)));
    assert!(start.elapsed() >= 3 * WHILE);
}

fn a_full_connection_refuses_and_keeps_what_it_has() {
    let (reader, writer) = pipe().unwrap();
    let sent = fill(&writer);
    assert!(matches!(writer.try_send_bytes(&[0; 1000]), Err(PipeSendError::Full)));
    let sender = fork_child(|| assert!(matches!(writer.send(&1), Err(PipeSendError::Taken))));
    sender.join_ok();
    thread::scope(|scope| {
        let late = scope.spawn(|| writer.send_bytes(b"late"));
        (0..sent).for_each(|_| assert_eq!(reader.recv_bytes(1000).unwrap(), [0; 1000]));
        assert_eq!(reader.recv_bytes(1000).unwrap(), b"late");
        late.join().unwrap().unwrap();
    });
}

fn is_ready(reader: &PipeReader, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

fn the_descriptor_is_ready_when_there_is_a_message_and_at_the_end() {
    let (reader, writer) = pipe().unwrap();
    let copy = bystander();
    assert!(!is_ready(&reader, PollTimeout::ZERO));
    let sender = fork_child(|| {
        writer.send(&1).unwrap();
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    });
    let received = loop {
        assert!(is_ready(&reader, PollTimeout::NONE));
        match reader.try_recv::<i32>() {
            Ok(number) => break number,
            Err(PipeRecvError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(received, 1);
    assert!(!is_ready(&reader, PollTimeout::ZERO));
    sender.kill();
    assert!(is_ready(&reader, PollTimeout::NONE));
    assert!(matches!(reader.try_recv::<i32>(), Err(PipeRecvError::Disconnected)));
    copy.kill();
}

fn without_a_descriptor_to_spare_a_message_stays() {
    let (reader, writer) = pipe().unwrap();
    assert!(!reader.poll(Some(Duration::ZERO)).unwrap());
    writer.send_bytes(&[7; 70_000]).unwrap();
    assert!(reader.poll(None).unwrap());
    let mut hoard = Vec::new();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let error = loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => hoard.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
    match reader.recv_bytes(usize::MAX) {
        Err(PipeRecvError::Os { call: "recvmsg", source }) => {
            assert_eq!(source.raw_os_error(), Some(nix::libc::EMFILE));
        }
        other => panic!("{other:?}"),
    }
    assert_ne!(error.kind(), ErrorKind::NotFound);
    hoard.clear();
    assert_eq!(reader.recv_bytes(usize::MAX).unwrap(), [7; 70_000]);
}

fn a_message_of_another_type_is_an_error_and_gone() {
    let (reader, writer) = pipe().unwrap();
    writer.send_bytes(&[255; 3]).unwrap();
    writer.send("next").unwrap();
    assert!(matches!(reader.recv::<String>(), Err(PipeRecvError::Decode(_))));
    assert_eq!(reader.recv::<String>().unwrap(), "next");
}

fn ten_thousand_deaths_leave_nothing_behind() {
    let copy = |number: u32| {
        let (a, b) = duplex().unwrap();
        let child = fork_child(|| {
            b.send(&number).unwrap();
            let _ = b.recv::<u32>();
        });
        assert_eq!(a.recv::<u32>().unwrap(), number);
        child.kill();
        assert!(matches!(a.recv::<u32>(), Err(PipeRecvError::Disconnected)));
    };
    copy(0);
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    (1..=10_000).for_each(copy);
    assert!(support::descriptors() <= descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn errors_speak() {
    let text = PipeRecvError::TooLong { len: 9, limit: 4 }.to_string();
    assert_eq!(text, "message too long: 9 bytes, asked for at most 4");
    assert_eq!(PipeSendError::Full.to_string(), "the connection is full");
    assert!(PipeSendError::Taken.to_string().contains("another process"));
}

fn debug_tells_whose_it_is() {
    let (a, b) = duplex().unwrap();
    assert_eq!(format!("{b:?}"), r#"Connection { state: "unused", .. }"#);
    let child = fork_child(|| drop(b.try_recv::<u8>()));
    assert!(matches!(child.join(), WaitStatus::Exited(pid, 0) if pid != getpid() && pid > Pid::from_raw(0)));
    a.try_recv::<u8>().unwrap_err();
    assert_eq!(format!("{a:?}"), r#"Connection { state: "ours", .. }"#);
    assert_eq!(format!("{b:?}"), r#"Connection { state: "taken", .. }"#);
}
