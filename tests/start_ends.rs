//! Ends of channels and connections that are sent to children, under each start method; and queues, at which the
//! children register.

mod support;

use std::process::ExitCode;

use pshared::{
    Channel, Connection, Context, Event, HandleError, PipeRecvError, PlainData, Process, Queue, Receiver,
    RecvError, Sender, SpawnError, channel, duplex, functions, pipe,
};

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        a_child_sends_by_the_end_that_it_was_given,
        a_child_receives_by_the_end_that_it_was_given,
        plain_and_untrusted_ends_travel_too,
        a_killed_child_with_an_end_is_heard_of,
        a_copy_that_was_never_used_closes_nothing,
        an_end_goes_on_to_a_grandchild,
        connections_work_both_ways,
        a_killed_child_with_a_connection_is_heard_of,
        ends_in_use_do_not_travel,
        children_register_at_queues,
        thousands_of_messages_and_sleeps,
    ])
}

functions! {
    static COUNT_UP: fn((Sender<String>, u32)) -> () = |(mut sender, count)| {
        (0..count).for_each(|n| sender.send(n.to_string()).unwrap());
    };
    static SUM: fn(Receiver<u64>) -> u64 = |mut receiver| {
        let mut sum = 0;
        loop {
            match receiver.recv() {
                Ok(n) => sum += n,
                Err(RecvError::Disconnected) => return sum,
                Err(error) => panic!("{error}"),
            }
        }
    };
    static PLAIN: fn((Receiver<[u32; 2], PlainData>, Sender<[u32; 2], PlainData>)) -> () =
        |(mut receiver, mut sender)| {
            while let Ok([a, b]) = receiver.recv() {
                sender.send([b, a]).unwrap();
            }
        };
    static HOLD: fn((Sender<String>, Event)) -> () = |(mut sender, held)| {
        sender.send("mine".into()).unwrap();
        held.set();
        loop {
            std::thread::park();
        }
    };
    static DROP: fn(Sender<String>) -> () = drop;
    static PASS_ON: fn(Sender<String>) -> () = |sender| {
        Context::spawn().start(&COUNT_UP, (sender, 3)).unwrap().join().unwrap();
    };
    static ECHO: fn(Connection) -> u32 = |connection| {
        for count in 0.. {
            match connection.recv::<String>() {
                Ok(text) => connection.send(&(text + "!")).unwrap(),
                Err(PipeRecvError::Disconnected) => return count,
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!("it counts for ever")
    };
    static HOLD_PIPE: fn((Connection, Event)) -> () = |(connection, held)| {
        connection.send(&7_u8).unwrap();
        held.set();
        loop {
            std::thread::park();
        }
    };
    static REGISTER: fn(Queue<u32>) -> () = |queue| {
        let sender = queue.sender().unwrap();
        sender.send(5).unwrap();
        loop {
            std::thread::park();
        }
    };
}

fn contexts() -> [Context; 3] {
    [Context::fork(), Context::spawn(), Context::fork_server().unwrap()]
}

/// Where an argument is serialised.
fn fresh() -> [Context; 2] {
    [Context::spawn(), Context::fork_server().unwrap()]
}

fn killed<T>(child: &Process<T>) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// CPython's `_TestConnection.test_spawn_close` and `_TestQueue`'s way of giving an end to a child.
fn a_child_sends_by_the_end_that_it_was_given() {
    for context in contexts() {
        let (sender, mut receiver) = channel(256).unwrap();
        let child = context.start(&COUNT_UP, (sender, 100)).unwrap();
        for n in 0..100 {
            assert_eq!(receiver.recv().unwrap(), n.to_string());
        }
        child.join().unwrap();
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    }
}

fn a_child_receives_by_the_end_that_it_was_given() {
    for context in contexts() {
        let (mut sender, receiver) = channel(256).unwrap();
        let child = context.start(&SUM, receiver).unwrap();
        (1..=1000_u64).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        assert_eq!(child.join().unwrap(), 500_500);
    }
}

fn plain_and_untrusted_ends_travel_too() {
    for context in contexts() {
        for trusts in [true, false] {
            let make = || if trusts { Channel::new(128) } else { Channel::new(128).untrusted() };
            let ((mut sender, theirs), (back, mut receiver)) =
                (make().plain().unwrap(), make().plain().unwrap());
            let child = context.start(&PLAIN, (theirs, back)).unwrap();
            for n in 0..100 {
                sender.send([n, 7]).unwrap();
                assert_eq!(receiver.recv().unwrap(), [7, n]);
            }
            sender.close().unwrap();
            child.join().unwrap();
            assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        }
    }
}

fn a_killed_child_with_an_end_is_heard_of() {
    for context in contexts() {
        let (held, (sender, mut receiver)) = (Event::new().unwrap(), channel(256).unwrap());
        let child = context.start(&HOLD, (sender, held.clone())).unwrap();
        held.wait();
        killed(&child);
        assert_eq!(receiver.recv().unwrap(), "mine");
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    }
}

/// Here none could have been made of it but by the start.
fn a_copy_that_was_never_used_closes_nothing() {
    for context in fresh() {
        let (sender, mut receiver) = channel(256).unwrap();
        context.start(&DROP, sender).unwrap().join().unwrap();
        assert_eq!(receiver.try_recv(), Err(pshared::TryRecvError::Empty));
        assert!(!receiver.is_disconnected());
    }
    // One that never left closes it.
    let (sender, mut receiver) = channel::<String>(256).unwrap();
    drop(sender);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

fn an_end_goes_on_to_a_grandchild() {
    for context in contexts() {
        let (sender, mut receiver) = channel(256).unwrap();
        context.start(&PASS_ON, sender).unwrap().join().unwrap();
        let came: Vec<String> = std::iter::from_fn(|| receiver.recv().ok()).collect();
        assert_eq!(came, ["0", "1", "2"]);
    }
}

/// CPython's `_TestConnection.test_connection`.
fn connections_work_both_ways() {
    for context in contexts() {
        let (here, there) = duplex().unwrap();
        let child = context.start(&ECHO, there).unwrap();
        for n in 0..50 {
            let text = "x".repeat(n * 1000);
            here.send(&text).unwrap();
            assert_eq!(here.recv::<String>().unwrap(), text + "!");
        }
        drop(here);
        assert_eq!(child.join().unwrap(), 50);
    }
}

fn a_killed_child_with_a_connection_is_heard_of() {
    for context in contexts() {
        let (held, (here, there)) = (Event::new().unwrap(), duplex().unwrap());
        let child = context.start(&HOLD_PIPE, (there, held.clone())).unwrap();
        held.wait();
        killed(&child);
        assert_eq!(here.recv::<u8>().unwrap(), 7);
        assert!(matches!(here.recv::<u8>(), Err(PipeRecvError::Disconnected)));
    }
}

fn ends_in_use_do_not_travel() {
    for context in fresh() {
        let bound = |refused: Result<(), SpawnError>| match refused {
            Err(SpawnError::Argument(cause)) => {
                matches!(cause.handle_error(), Some(HandleError::Bound { .. }))
            }
            other => panic!("{other:?}"),
        };
        let (mut sender, mut receiver) = channel::<String>(256).unwrap();
        sender.claim().unwrap();
        assert!(bound(context.start(&DROP, sender).map(drop)));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        let (here, there) = duplex().unwrap();
        there.send(&1).unwrap();
        assert!(bound(context.start(&ECHO, there).map(drop)));
        assert_eq!(here.recv::<i32>().unwrap(), 1);

        // Given back, it may.
        let (mut sender, mut receiver) = channel(256).unwrap();
        sender.send("before".to_string()).unwrap();
        sender.release().unwrap();
        context.start(&COUNT_UP, (sender, 1)).unwrap().join().unwrap();
        assert_eq!([receiver.recv().unwrap(), receiver.recv().unwrap()], ["before", "0"]);
    }
    let (here, there) = pipe().unwrap();
    assert!(serde_json::to_string(&here).is_err() && serde_json::to_string(&there).is_err());
}

fn children_register_at_queues() {
    for context in contexts() {
        let queue = Queue::new(pshared::Capacity::bytes(256).peers(2)).unwrap();
        let child = context.start(&REGISTER, queue.clone()).unwrap();
        assert_eq!(queue.recv().unwrap(), 5);
        killed(&child);
        assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    }
}

/// So small that both ends sleep all the time: a fence that misses the other process would leave one asleep.
fn thousands_of_messages_and_sleeps() {
    for context in fresh() {
        let ((mut sender, theirs), (back, mut receiver)) =
            (Channel::new(64).plain().unwrap(), Channel::new(64).plain().unwrap());
        let child = context.start(&PLAIN, (theirs, back)).unwrap();
        for n in 0..5_000 {
            sender.send([n, 1]).unwrap();
            if n % 64 == 0 {
                std::thread::yield_now();
            }
            assert_eq!(receiver.recv().unwrap(), [1, n]);
        }
        drop(sender);
        child.join().unwrap();
    }
}
