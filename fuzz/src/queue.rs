//! Operation lists against a queue and against a plain model of one: the same answers, in the same order.

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use pshared::{Queue, TryRecvError, TrySendError};

#[derive(Arbitrary, Debug)]
enum Op {
    Send(Vec<u8>),
    Recv,
    Close,
    Len,
}

#[derive(Arbitrary, Debug)]
struct Case {
    capacity: u16,
    ops: Vec<Op>,
}

/// What a message of `len` bytes takes: a header of 8 and the bytes in units of 8. Postcard puts the length before
/// them: one byte for each 7 bits.
fn encoded(len: usize) -> usize {
    len + if len < 1 << 7 {
        1
    } else if len < 1 << 14 {
        2
    } else {
        3
    }
}

fn room(len: usize) -> usize {
    8 + encoded(len).next_multiple_of(8)
}

pub fn run(data: &[u8]) {
    let Some(case) = super::case::<Case>(data) else { return };
    let Ok(queue) = Queue::<Vec<u8>>::new(usize::from(case.capacity)) else {
        assert_eq!(case.capacity, 0);
        return;
    };
    let mut model: VecDeque<Vec<u8>> = VecDeque::new();
    let mut closed = false;
    for op in case.ops {
        let used: usize = model.iter().map(|message| room(message.len())).sum();
        match op {
            Op::Send(message) => match queue.try_send(message.clone()) {
                Ok(()) => {
                    assert!(!closed && used + room(message.len()) <= queue.capacity());
                    model.push_back(message);
                }
                Err(TrySendError::TooLong { len, limit, .. }) => {
                    assert_eq!(len, encoded(message.len()));
                    assert!(len > limit && limit == queue.max_message_len());
                }
                Err(TrySendError::Closed(back)) => assert!(closed && back == message),
                Err(TrySendError::Full(back)) => {
                    assert!(back == message && used + room(message.len()) > queue.capacity());
                }
                Err(other) => panic!("{other:?}"),
            },
            Op::Recv => match queue.try_recv() {
                Ok(message) => assert_eq!(Some(message), model.pop_front()),
                Err(TryRecvError::Empty) => assert!(model.is_empty() && !closed),
                Err(TryRecvError::Closed) => assert!(model.is_empty() && closed),
                Err(other) => panic!("{other:?}"),
            },
            Op::Close => {
                queue.close();
                closed = true;
            }
            Op::Len => assert_eq!(queue.len(), model.len()),
        }
    }
}
