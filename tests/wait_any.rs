//! What `wait_any` promises, with really forked children; first what CPython's suite pins, each with its origin.
//!
//! CPython: `TestWait` of `test/_test_multiprocessing.py`. crossbeam-channel: of `tests/select.rs` what is about
//! several receivers; there the operation is chosen and done in one, here one waits and then does it.

mod support;

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::resource::{Resource, setrlimit},
};
use pshared::{
    Array, Atomic, Capacity, Channel, Deadline, Event, PipeReader, PipeRecvError, PlainData, Process, Queue,
    RecvError, Source, TryRecvError, WaitAnyError, duplex, pipe, try_wait_any, wait_any, wait_any_deadline,
    wait_any_timeout,
};
use support::{fork_child, until};

fn main() -> ExitCode {
    let mixes: &[&str] = &[
        "cpython_wait_integer",
        "a_mixture_wakes_by_each_of_its_sources",
        "a_killed_maker_of_a_mixtures_news_has_made_it_or_not",
        "a_killed_waiter_for_a_mixture_holds_nobody_up",
        "ten_thousand_waits_for_a_mixture_leave_nothing_behind",
        "a_mixture_times_out",
        "without_a_descriptor_to_spare_a_mixture_is_an_error",
    ];
    let needs: Vec<(&str, support::Need)> = mixes.iter().map(|&test| (test, needs_mixtures as _)).collect();
    support::main_where(
        support::tests![
            cpython_wait,
            cpython_wait_slow,
            cpython_wait_socket,
            cpython_wait_socket_slow,
            cpython_wait_timeout,
            cpython_wait_integer,
            cpython_neg_timeout,
            crossbeam_select_smoke,
            crossbeam_select_disconnected,
            crossbeam_select_default_and_timeout,
            crossbeam_select_unblocks,
            crossbeam_select_stress_recv,
            all_that_are_ready_are_told,
            words_wake_by_each_of_them,
            a_pulse_is_not_missed,
            who_waits_beside_receivers_takes_nobodys_wake,
            a_killed_sender_has_sent_or_not,
            a_killed_waiter_holds_nobody_up,
            a_queue_that_is_closed_or_disconnected_is_ready,
            a_channel_is_ready_for_a_message_and_for_its_end,
            an_unclaimed_receiver_is_ready,
            waits_for_a_channel_and_bursts_take_turns,
            a_connection_greets_without_being_ready,
            the_end_of_a_connection_is_ready,
            an_end_that_is_anothers_is_ready,
            more_words_than_one_wait_can_take_are_an_error,
            a_hundred_and_twenty_eight_words_are_waited_for,
            nothing_to_wait_for_is_an_error,
            where_io_uring_is_forbidden_a_mixture_is_a_typed_error,
            without_a_descriptor_to_spare_a_mixture_is_an_error,
            a_connection_that_finds_no_place_in_a_set_is_an_error_and_not_ready,
            a_mixture_wakes_by_each_of_its_sources,
            a_killed_maker_of_a_mixtures_news_has_made_it_or_not,
            a_killed_waiter_for_a_mixture_holds_nobody_up,
            a_mixture_times_out,
            ten_thousand_waits_for_a_mixture_leave_nothing_behind,
            ten_thousand_deaths_leave_it_as_it_was,
        ],
        &needs,
    )
}

/// Words and descriptors in one wait: not every kernel has it, or allows it.
fn needs_mixtures() -> Result<(), String> {
    let (event, (reader, _writer)) = (Event::new().unwrap(), pipe().unwrap());
    match try_wait_once(&[&event, &reader]) {
        Err(WaitAnyError::Unsupported { source }) => {
            Err(format!("needs io_uring with futex waits: {source}"))
        }
        _ => Ok(()),
    }
}

/// Waits for a moment, so that it comes to a sleep.
fn try_wait_once(sources: &[&dyn Source]) -> Result<Vec<usize>, WaitAnyError> {
    wait_any_timeout(sources, Duration::from_millis(1))
}

type Numbers = Queue<u64, PlainData>;

fn queue(items: usize) -> Numbers {
    Queue::plain(Capacity::bytes(1 << 12).items(items).peers(2)).unwrap()
}

const WHILE: Duration = Duration::from_millis(15);
const LONG: Duration = Duration::from_secs(50);

/// Four children send ten messages each, and end; all are received by waiting for whoever is ready.
fn four_send(pause: Duration) {
    let mut readers: Vec<PipeReader> = Vec::new();
    let mut children = Vec::new();
    for i in 0..4_u32 {
        let (reader, writer) = pipe().unwrap();
        readers.push(reader);
        let child = Process::spawn(move || {
            for k in 0..10_u32 {
                thread::sleep(pause);
                writer.send(&(i, k)).unwrap();
            }
        });
        children.push(child.unwrap());
    }
    let mut messages = Vec::new();
    while !readers.is_empty() {
        let sources: Vec<&dyn Source> = readers.iter().map(|reader| reader as _).collect();
        let ready = wait_any(&sources).unwrap();
        assert!(!ready.is_empty());
        let mut over = Vec::new();
        for place in ready {
            match readers[place].recv::<(u32, u32)>() {
                Ok(message) => messages.push(message),
                Err(PipeRecvError::Disconnected) => over.push(place),
                Err(error) => panic!("{error}"),
            }
        }
        over.into_iter().rev().for_each(|place| drop(readers.remove(place)));
    }
    messages.sort();
    assert!(messages.into_iter().eq((0..4).flat_map(|i| (0..10).map(move |k| (i, k)))));
    children.into_iter().for_each(|child| child.join().unwrap());
}

/// `TestWait.test_wait`.
fn cpython_wait() {
    four_send(Duration::ZERO);
}

/// `TestWait.test_wait_slow`.
fn cpython_wait_slow() {
    four_send(Duration::from_millis(3));
}

/// Four children connect and send a text each in ten parts; what is received is as it was sent.
fn four_connect(pause: Duration) {
    use std::io::Read;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                for i in 0..10 {
                    thread::sleep(pause);
                    writeln!(stream, "{i}").unwrap();
                }
            })
        })
        .collect();
    let mut streams: Vec<(TcpStream, Vec<u8>)> =
        (0..4).map(|_| (listener.accept().unwrap().0, vec![])).collect();
    let mut done = Vec::new();
    while !streams.is_empty() {
        let files: Vec<_> = streams.iter().map(|(stream, _)| stream.as_fd()).collect();
        let sources: Vec<&dyn Source> = files.iter().map(|file| file as _).collect();
        for place in wait_any(&sources).unwrap().into_iter().rev() {
            let mut bytes = [0; 32];
            match streams[place].0.read(&mut bytes).unwrap() {
                0 => done.push(streams.remove(place).1),
                len => streams[place].1.extend(&bytes[..len]),
            }
        }
    }
    assert_eq!(done, vec![b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n".to_vec(); 4]);
    children.into_iter().for_each(|child| child.join_ok());
}

/// `TestWait.test_wait_socket`.
fn cpython_wait_socket() {
    four_connect(Duration::ZERO);
}

/// `TestWait.test_wait_socket_slow`.
fn cpython_wait_socket_slow() {
    four_connect(Duration::from_millis(3));
}

/// `TestWait.test_wait_timeout`.
fn cpython_wait_timeout() {
    let (a, b) = duplex().unwrap();
    let (limit, start) = (Duration::from_millis(100), Instant::now());
    assert!(matches!(wait_any_timeout(&[&a, &b], limit), Err(WaitAnyError::TimedOut)));
    assert!(start.elapsed() >= limit);
    b.send(&()).unwrap();
    assert_eq!(wait_any_timeout(&[&a, &b], Duration::from_secs(20)).unwrap(), [0]);
}

/// `TestWait.test_wait_integer`: a process's end, a connection and another one, in a mixture; here with a semaphore's
/// part played by an event.
fn cpython_wait_integer() {
    let (a, b) = duplex().unwrap();
    let (started, go) = (Event::new().unwrap(), Event::new().unwrap());
    let child = Process::spawn(|| {
        started.set();
        go.wait();
    })
    .unwrap();
    started.wait();
    let expected = Duration::from_millis(30);
    let start = Instant::now();
    let sources: [&dyn Source; 4] = [&a, &child, &b, &go];
    assert!(matches!(wait_any_timeout(&sources, expected), Err(WaitAnyError::TimedOut)));
    assert!(start.elapsed() >= expected);
    a.send(&()).unwrap();
    assert_eq!(wait_any_timeout(&sources, LONG).unwrap(), [2]);
    b.send(&()).unwrap();
    assert_eq!(wait_any_timeout(&sources, LONG).unwrap(), [0, 2]);
    go.set();
    until(|| !child.is_alive());
    assert_eq!(wait_any_timeout(&sources, LONG).unwrap(), [0, 1, 2, 3]);
    child.join().unwrap();
}

/// `TestWait.test_neg_timeout`: there a negative limit counts as none left; a `Duration` has no sign.
fn cpython_neg_timeout() {
    let (a, _b) = duplex().unwrap();
    assert!(matches!(wait_any_timeout(&[&a], Duration::ZERO), Err(WaitAnyError::TimedOut)));
    assert!(matches!(wait_any_deadline(&[&a], Deadline::now()), Err(WaitAnyError::TimedOut)));
    assert!(matches!(try_wait_any(&[&a]), Err(WaitAnyError::TimedOut)));
}

/// `select::smoke1`: the one of two that has a message.
fn crossbeam_select_smoke() {
    let (one, other) = (queue(4), queue(4));
    one.send(1).unwrap();
    assert_eq!(wait_any(&[&one, &other]).unwrap(), [0]);
    assert_eq!(one.recv(), Ok(1));
    other.send(2).unwrap();
    assert_eq!(wait_any(&[&one, &other]).unwrap(), [1]);
    assert_eq!(other.recv(), Ok(2));
}

/// `select::disconnected`: a closed one is ready, with a message or without.
fn crossbeam_select_disconnected() {
    let (one, other) = (queue(4), queue(4));
    let closer = fork_child(|| {
        one.close();
        thread::sleep(WHILE);
        other.send(5).unwrap();
    });
    assert_eq!(wait_any_timeout(&[&one, &other], LONG).unwrap()[0], 0);
    assert_eq!(one.recv(), Err(RecvError::Closed));
    closer.join_ok();
    assert_eq!(wait_any(&[&one, &other]).unwrap(), [0, 1]);
    other.close();
    assert_eq!(other.recv(), Ok(5));
    assert_eq!(wait_any(&[&other]).unwrap(), [0]);
}

/// `select::default` and `select::timeout`.
fn crossbeam_select_default_and_timeout() {
    let (one, other) = (queue(4), queue(4));
    assert!(matches!(try_wait_any(&[&one, &other]), Err(WaitAnyError::TimedOut)));
    let start = Instant::now();
    assert!(matches!(wait_any_timeout(&[&one, &other], WHILE), Err(WaitAnyError::TimedOut)));
    assert!(start.elapsed() >= WHILE);
    other.send(1).unwrap();
    assert_eq!(try_wait_any(&[&one, &other]).unwrap(), [1]);
}

/// `select::unblocks`.
fn crossbeam_select_unblocks() {
    let (one, other) = (queue(4), queue(4));
    let waiter = fork_child(|| {
        assert_eq!(wait_any_timeout(&[&one, &other], LONG).unwrap(), [1]);
        assert_eq!(other.recv(), Ok(2));
    });
    waiter.until_asleep();
    other.send(2).unwrap();
    waiter.join_ok();
}

/// `select::stress_recv`: two are fed in turn, each when the other's message was taken.
fn crossbeam_select_stress_recv() {
    const COUNT: u64 = 2_000;
    let (one, other, taken) = (queue(1), queue(1), queue(1));
    let feeder = fork_child(|| {
        for i in 0..COUNT {
            one.send(i).unwrap();
            taken.recv().unwrap();
            other.send(i).unwrap();
            taken.recv().unwrap();
        }
    });
    for i in 0..COUNT {
        for _ in 0..2 {
            let ready = wait_any(&[&one, &other]).unwrap();
            assert_eq!(ready.len(), 1);
            assert_eq!([&one, &other][ready[0]].recv(), Ok(i));
            taken.send(i).unwrap();
        }
    }
    feeder.join_ok();
}

fn all_that_are_ready_are_told() {
    let (event, queue, (reader, writer)) = (Event::new().unwrap(), queue(4), pipe().unwrap());
    let child = fork_child(|| ());
    let file: OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
    until(|| child.has_ended());
    assert_eq!(try_wait_any(&[&event, &queue, &reader, &file]).unwrap(), [3]);
    event.set();
    queue.send(1).unwrap();
    writer.send(&1).unwrap();
    assert_eq!(wait_any(&[&event, &queue, &reader, &file]).unwrap(), [0, 1, 2, 3]);
    assert_eq!(queue.recv(), Ok(1));
    event.clear();
    assert_eq!(try_wait_any(&[&event, &queue, &reader]).unwrap(), [2]);
    child.join_ok();
}

fn words_wake_by_each_of_them() {
    let (event, one, other) = (Event::new().unwrap(), queue(4), queue(4));
    let said = Array::<u32>::zeroed(3).unwrap();
    let acts: [fn(&Event, &Numbers, &Numbers); 3] = [
        |event, _, _| assert!(event.set()),
        |_, one, _| one.send(1).unwrap(),
        |_, _, other| other.send(1).unwrap(),
    ];
    for (place, act) in acts.into_iter().enumerate() {
        let waiter = fork_child(|| {
            let ready = wait_any(&[&event, &one, &other]).unwrap();
            assert_eq!(ready, [place]);
            said.lock().unwrap()[place] += 1;
        });
        waiter.until_asleep();
        act(&event, &one, &other);
        waiter.join_ok();
        event.clear();
        let _ = (one.try_recv(), other.try_recv());
    }
    assert_eq!(said.to_vec().unwrap(), [1; 3]);
}

fn a_pulse_is_not_missed() {
    for _ in 0..100 {
        let (event, queue) = (Event::new().unwrap(), queue(1));
        let waiters: Vec<_> =
            (0..3).map(|_| fork_child(|| assert_eq!(wait_any(&[&queue, &event]).unwrap(), [1]))).collect();
        waiters.iter().for_each(|waiter| waiter.until_asleep());
        event.set();
        event.clear();
        waiters.into_iter().for_each(|waiter| waiter.join_ok());
    }
}

fn who_waits_beside_receivers_takes_nobodys_wake() {
    for _ in 0..50 {
        let (queue, stop) = (queue(4), Event::new().unwrap());
        let watcher = fork_child(|| assert_eq!(wait_any(&[&stop, &queue]).unwrap(), [0]));
        watcher.until_asleep();
        let receivers: Vec<_> = (0..3).map(|_| fork_child(|| assert!(queue.recv().is_ok()))).collect();
        receivers.iter().for_each(|receiver| receiver.until_asleep());
        let late = fork_child(|| drop(wait_any(&[&stop, &queue]).unwrap()));
        late.until_asleep();
        stop.set();
        watcher.join_ok();
        late.join_ok();
        (0..3).for_each(|i| queue.send(i).unwrap());
        receivers.into_iter().for_each(|receiver| receiver.join_ok());
    }
}

fn a_killed_sender_has_sent_or_not() {
    for round in 0..100 {
        let (queue, turns, event) = (queue(4), Atomic::new(0_u64).unwrap(), Event::new().unwrap());
        let receiver = fork_child(|| {
            loop {
                assert_eq!(wait_any(&[&event, &queue]).unwrap(), [1]);
                if queue.try_recv() == Ok(u64::MAX) {
                    return;
                }
            }
        });
        let sender = fork_child(|| {
            loop {
                queue.send(1).unwrap();
                turns.fetch_add(1);
            }
        });
        until(|| turns.get() > round);
        sender.kill();
        queue.send(u64::MAX).unwrap();
        receiver.join_ok();
    }
}

fn a_killed_waiter_holds_nobody_up() {
    for _ in 0..50 {
        let (queue, event) = (queue(4), Event::new().unwrap());
        let waiter = fork_child(|| drop(wait_any(&[&event, &queue])));
        waiter.until_asleep();
        let receiver = fork_child(|| assert!(queue.recv().is_ok()));
        receiver.until_asleep();
        let second = fork_child(|| assert_eq!(wait_any(&[&event, &queue]).unwrap(), [0]));
        second.until_asleep();
        waiter.kill();
        event.set();
        second.join_ok();
        queue.send(1).unwrap();
        receiver.join_ok();
    }
}

fn a_queue_that_is_closed_or_disconnected_is_ready() {
    let (open, other) = (queue(4), queue(4));
    let waiter = fork_child(|| assert_eq!(wait_any(&[&open, &other]).unwrap(), [1]));
    waiter.until_asleep();
    other.close();
    waiter.join_ok();
    drop(open.sender().unwrap());
    assert_eq!(wait_any(&[&open]).unwrap(), [0]);
    assert_eq!(open.recv(), Err(RecvError::Disconnected));
}

fn a_channel_is_ready_for_a_message_and_for_its_end() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u64>().unwrap();
    let stop = Event::new().unwrap();
    let stopped = Atomic::new(0_u8).unwrap();
    let waiter = fork_child(|| {
        receiver.claim().unwrap();
        for number in 0..50 {
            assert_eq!(wait_any(&[&stop, &receiver]).unwrap(), [1]);
            assert_eq!(receiver.try_recv(), Ok(number));
            assert!(matches!(try_wait_any(&[&stop, &receiver]), Err(WaitAnyError::TimedOut)));
        }
        assert_eq!(wait_any(&[&stop, &receiver]).unwrap(), [0]);
        stop.clear();
        stopped.set(1);
        assert_eq!(wait_any(&[&stop, &receiver]).unwrap(), [1]);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
    let sending = fork_child(|| {
        for number in 0..50 {
            waiter.until_asleep();
            sender.send(number).unwrap();
            until(|| sender.is_empty());
        }
        waiter.until_asleep();
        stop.set();
        loop {
            thread::park();
        }
    });
    until(|| stopped.get() == 1);
    waiter.until_asleep();
    sending.kill();
    waiter.join_ok();
}

fn an_unclaimed_receiver_is_ready() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u64>().unwrap();
    assert_eq!(try_wait_any(&[&receiver]).unwrap(), [0]);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    // It is this thread's now.
    assert!(matches!(try_wait_any(&[&receiver]), Err(WaitAnyError::TimedOut)));
    sender.send(1).unwrap();
    assert_eq!(try_wait_any(&[&receiver]).unwrap(), [0]);
    assert_eq!(receiver.try_recv(), Ok(1));
    sender.close().unwrap();
    assert_eq!(wait_any(&[&receiver]).unwrap(), [0]);
}

fn waits_for_a_channel_and_bursts_take_turns() {
    // A sleep makes commits careful, and a burst makes them careless: no message is slept through by the way.
    let (mut sender, mut receiver) = Channel::new(1024).plain::<u64>().unwrap();
    let waiter = fork_child(|| {
        receiver.claim().unwrap();
        let mut next = 0;
        while wait_any(&[&receiver]).unwrap() == [0] {
            match receiver.try_recv() {
                Ok(number) => assert_eq!(number, next),
                Err(error) => return assert_eq!((error, next), (TryRecvError::Disconnected, 4_500)),
            }
            next += 1;
        }
    });
    for round in 0..15 {
        for number in 0..300 {
            if number < 3 {
                waiter.until_asleep();
            }
            sender.send(300 * round + number).unwrap();
        }
        until(|| sender.is_empty());
    }
    sender.close().unwrap();
    waiter.join_ok();
}

fn a_connection_greets_without_being_ready() {
    let (a, b) = duplex().unwrap();
    let waiter = fork_child(|| assert_eq!(wait_any(&[&a]).unwrap(), [0]));
    until(|| support::is_asleep(waiter.pid()));
    assert!(!b.poll(Some(Duration::ZERO)).unwrap()); // greets
    thread::sleep(WHILE);
    assert!(!waiter.has_ended());
    b.send(&1).unwrap();
    waiter.join_ok();
}

fn the_end_of_a_connection_is_ready() {
    let (a, b) = duplex().unwrap();
    let owner = fork_child(|| drop(b.recv::<u8>()));
    until(|| support::is_asleep(owner.pid()));
    assert!(matches!(try_wait_any(&[&a]), Err(WaitAnyError::TimedOut)));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_any(&[&a]).unwrap());
        thread::sleep(WHILE);
        assert!(!waiter.is_finished());
        owner.kill();
        assert_eq!(waiter.join().unwrap(), [0]);
    });
    assert!(matches!(a.recv::<u8>(), Err(PipeRecvError::Disconnected)));
}

fn an_end_that_is_anothers_is_ready() {
    let (a, _b) = duplex().unwrap();
    assert!(matches!(try_wait_any(&[&a]), Err(WaitAnyError::TimedOut)));
    fork_child(|| assert_eq!(wait_any(&[&a]).unwrap(), [0])).join_ok();
}

fn more_words_than_one_wait_can_take_are_an_error() {
    let events: Vec<_> = (0..129).map(|_| Event::new().unwrap()).collect();
    let sources: Vec<&dyn Source> = events.iter().map(|event| event as _).collect();
    match wait_any_timeout(&sources, WHILE) {
        Err(WaitAnyError::TooMany { words: 129, limit: 128 }) => {}
        other => panic!("{other:?}"),
    }
    // What is ready is told all the same.
    events[77].set();
    assert_eq!(wait_any(&sources).unwrap(), [77]);
}

fn a_hundred_and_twenty_eight_words_are_waited_for() {
    let events: Vec<_> = (0..128).map(|_| Event::new().unwrap()).collect();
    let waiter = fork_child(|| {
        let sources: Vec<&dyn Source> = events.iter().map(|event| event as _).collect();
        assert_eq!(wait_any(&sources).unwrap(), [127]);
    });
    waiter.until_asleep();
    events[127].set();
    waiter.join_ok();
}

fn nothing_to_wait_for_is_an_error() {
    let error = wait_any(&[]).unwrap_err();
    assert!(matches!(error, WaitAnyError::NoSources));
    assert_eq!(error.to_string(), "there is nothing to wait for");
}

/// From now on this process gets ENOSYS where it asks for a ring.
fn forbid_io_uring() {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: plain attributes of this process; the filter outlives the call, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

fn where_io_uring_is_forbidden_a_mixture_is_a_typed_error() {
    let (queue, event, (reader, writer)) = (queue(4), Event::new().unwrap(), pipe().unwrap());
    forbid_io_uring();
    match wait_any(&[&queue, &reader]) {
        Err(WaitAnyError::Unsupported { source }) => assert_eq!(source.raw_os_error(), Some(libc::ENOSYS)),
        other => panic!("{other:?}"),
    }
    // What is ready is told all the same, and each kind by itself is waited for.
    queue.send(1).unwrap();
    assert_eq!(wait_any(&[&queue, &reader]).unwrap(), [0]);
    assert_eq!(queue.recv(), Ok(1));
    assert!(matches!(wait_any_timeout(&[&queue, &event], WHILE), Err(WaitAnyError::TimedOut)));
    assert!(matches!(wait_any_timeout(&[&reader], WHILE), Err(WaitAnyError::TimedOut)));
    writer.send(&1).unwrap();
    assert_eq!(wait_any(&[&queue, &reader]).unwrap(), [1]);
}

fn without_a_descriptor_to_spare_a_mixture_is_an_error() {
    let (queue, (reader, _writer)) = (queue(4), pipe().unwrap());
    assert!(matches!(try_wait_any(&[&queue, &reader]), Err(WaitAnyError::TimedOut)));
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    match wait_any(&[&queue, &reader]) {
        Err(WaitAnyError::Os { call: "io_uring_setup", source }) => {
            assert_eq!(source.raw_os_error(), Some(libc::EMFILE));
        }
        other => panic!("{other:?}"),
    }
    hoard.clear();
    assert!(matches!(wait_any_timeout(&[&queue, &reader], WHILE), Err(WaitAnyError::TimedOut)));
}

fn a_connection_that_finds_no_place_in_a_set_is_an_error_and_not_ready() {
    let (queue, (reader, _writer)) = (queue(4), pipe().unwrap());
    support::forbid(&[libc::SYS_epoll_ctl], libc::SECCOMP_RET_ERRNO | libc::ENOSPC as u32);
    let told = |sources: &[&dyn Source]| match wait_any(sources) {
        Err(WaitAnyError::Os { call: "epoll_ctl", source }) => source.raw_os_error(),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&[&reader]), Some(libc::ENOSPC));
    assert_eq!(told(&[&queue, &reader]), Some(libc::ENOSPC));
    // What is ready is told all the same.
    queue.send(1).unwrap();
    assert_eq!(wait_any(&[&queue, &reader]).unwrap(), [0]);
}

fn a_mixture_wakes_by_each_of_its_sources() {
    for place in 0..5 {
        let (queue, event, (reader, writer)) = (queue(4), Event::new().unwrap(), pipe().unwrap());
        let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        let go = Event::new().unwrap();
        let child = Process::spawn(|| go.wait()).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let sources: [&dyn Source; 5] = [&queue, &event, &reader, &child, &there.as_fd()];
                wait_any(&sources).unwrap()
            });
            thread::sleep(WHILE);
            assert!(!waiter.is_finished());
            match place {
                0 => queue.send(1).unwrap(),
                1 => assert!(event.set()),
                2 => writer.send(&1).unwrap(),
                3 => assert!(go.set()),
                _ => here.write_all(b"x").unwrap(),
            }
            assert_eq!(waiter.join().unwrap(), [place]);
        });
        go.set();
        child.join().unwrap();
    }
}

fn a_killed_maker_of_a_mixtures_news_has_made_it_or_not() {
    for round in 0..40 {
        let (queue, turns, (reader, writer)) = (queue(4), Atomic::new(0_u64).unwrap(), pipe().unwrap());
        let receiver = fork_child(|| {
            loop {
                for place in wait_any(&[&reader, &queue]).unwrap() {
                    if place == 0 {
                        return;
                    }
                    let _ = queue.try_recv();
                }
            }
        });
        let sender = fork_child(|| {
            loop {
                queue.send(1).unwrap();
                turns.fetch_add(1);
            }
        });
        until(|| turns.get() > round);
        sender.kill();
        until(|| queue.is_empty());
        until(|| support::is_asleep(receiver.pid()));
        queue.send(1).unwrap();
        until(|| queue.is_empty());
        writer.send(&1).unwrap();
        receiver.join_ok();
    }
}

fn a_killed_waiter_for_a_mixture_holds_nobody_up() {
    for _ in 0..50 {
        let (queue, (reader, _writer)) = (queue(4), pipe().unwrap());
        let waiter = fork_child(|| drop(wait_any(&[&reader, &queue])));
        until(|| support::is_asleep(waiter.pid()));
        let receiver = fork_child(|| assert!(queue.recv().is_ok()));
        receiver.until_asleep();
        waiter.kill();
        queue.send(1).unwrap();
        receiver.join_ok();
    }
}

fn a_mixture_times_out() {
    let (queue, (reader, _writer)) = (queue(4), pipe().unwrap());
    let start = Instant::now();
    assert!(matches!(wait_any_timeout(&[&reader, &queue], WHILE), Err(WaitAnyError::TimedOut)));
    let deadline = Deadline::after(WHILE);
    assert!(matches!(wait_any_deadline(&[&reader, &queue], deadline), Err(WaitAnyError::TimedOut)));
    assert!(start.elapsed() >= 2 * WHILE);
}

fn ten_thousand_waits_for_a_mixture_leave_nothing_behind() {
    let (queue, (reader, _writer)) = (queue(4), pipe().unwrap());
    let wait = || {
        let limit = Duration::from_micros(10);
        assert!(matches!(wait_any_timeout(&[&reader, &queue], limit), Err(WaitAnyError::TimedOut)));
    };
    wait();
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    (0..10_000).for_each(|_| wait());
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
    queue.send(1).unwrap();
    assert_eq!(wait_any(&[&reader, &queue]).unwrap(), [1]);
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let (queue, event) = (queue(4), Event::new().unwrap());
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for _ in 0..10_000 {
        fork_child(|| drop(wait_any(&[&event, &queue]))).kill();
    }
    let waiter = fork_child(|| assert_eq!(wait_any(&[&event, &queue]).unwrap(), [1]));
    waiter.until_asleep();
    queue.send(1).unwrap();
    waiter.join_ok();
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}
