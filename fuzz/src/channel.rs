//! Operation lists against a channel of bytes and against a plain model: the same answers, in the same order.

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use pshared::{Capacity, Channel, Receiver, RecvError, Sender, TryRecvError, TrySendError};

#[derive(Arbitrary, Debug)]
enum Op {
    Send(Vec<u8>),
    SendInPlace(u16, u8),
    SendMany(u8, u8),
    Recv,
    RecvInPlace,
    RecvMany(u8),
    Release(bool),
    CloseSender,
    CloseReceiver,
}

#[derive(Arbitrary, Debug)]
struct Case {
    capacity: u16,
    items: Option<u8>,
    untrusted: bool,
    ops: Vec<Op>,
}

/// What a message of `len` bytes takes: a header of 8 and the bytes in units of 8.
fn room(len: usize) -> usize {
    8 + len.next_multiple_of(8)
}

struct Model {
    messages: VecDeque<Vec<u8>>,
    capacity: usize,
    most: usize,
    closed: [bool; 2],
}

impl Model {
    fn fits(&self, len: usize) -> bool {
        let used: usize = self.messages.iter().map(|message| room(message.len())).sum();
        self.messages.len() < self.most && used + room(len) <= self.capacity
    }

    /// Why a message of that length did not go.
    fn judge<T>(&self, len: usize, error: &TrySendError<T>) {
        let [own, other] = self.closed;
        match error {
            TrySendError::TooLong { len: told, limit, .. } => assert!(*told == len && len > *limit),
            TrySendError::Closed(_) => assert!(own),
            TrySendError::Disconnected(_) => assert!(!own && other),
            TrySendError::Full(_) => assert!(!own && !other && !self.fits(len)),
            error => panic!("{error:?}"),
        }
    }

    fn judge_empty(&self, error: &TryRecvError) {
        let [other, own] = self.closed;
        match error {
            TryRecvError::Closed => assert!(own),
            TryRecvError::Empty => assert!(!own && !other && self.messages.is_empty()),
            TryRecvError::Disconnected => assert!(!own && other && self.messages.is_empty()),
            error => panic!("{error:?}"),
        }
    }
}

pub fn run(data: &[u8]) {
    let Some(case) = super::case::<Case>(data) else { return };
    let capacity = Capacity::bytes(case.capacity.into());
    let capacity = case.items.map_or(capacity, |items| capacity.items(items.into()));
    let channel = Channel::new(capacity);
    let channel = if case.untrusted { channel.untrusted() } else { channel };
    let Ok((mut sender, mut receiver)) = channel.bytes() else {
        return assert!(case.capacity == 0 || case.items == Some(0));
    };
    let mut model = Model {
        messages: VecDeque::new(),
        capacity: sender.capacity(),
        most: case.items.map_or(usize::MAX, usize::from),
        closed: [false; 2],
    };
    for op in case.ops {
        apply(op, &mut sender, &mut receiver, &mut model);
        if !model.closed[1] {
            assert_eq!((sender.len(), receiver.len()), (model.messages.len(), model.messages.len()));
        }
    }
}

type Bytes = pshared::Bytes;

fn apply(
    op: Op,
    sender: &mut Sender<Vec<u8>, Bytes>,
    receiver: &mut Receiver<Vec<u8>, Bytes>,
    model: &mut Model,
) {
    match op {
        Op::Send(message) => match sender.try_send(message.clone()) {
            Ok(()) => {
                assert!(model.closed == [false; 2] && model.fits(message.len()));
                model.messages.push_back(message);
            }
            Err(error) => {
                model.judge(message.len(), &error);
                assert_eq!(error.into_inner(), message);
            }
        },
        Op::SendInPlace(len, byte) => match sender.try_reserve(len.into()) {
            Ok(mut slot) => {
                assert!(model.closed == [false; 2] && model.fits(len.into()));
                if byte % 4 > 0 {
                    slot.fill(byte);
                    slot.commit().unwrap();
                    model.messages.push_back(vec![byte; len.into()]);
                }
            }
            Err(error) => model.judge(len.into(), &error),
        },
        Op::SendMany(count, len) => {
            let mut messages = vec![vec![len; len.into()]; count.into()];
            let result = sender.try_send_many(&mut messages);
            let sent = usize::from(count) - messages.len();
            for _ in 0..sent {
                assert!(model.closed == [false; 2] && model.fits(len.into()));
                model.messages.push_back(vec![len; len.into()]);
            }
            // None at all are refused by an end that is closed.
            assert!(if count > 0 { result.is_ok() == messages.is_empty() } else { sent == 0 });
            assert!(result.is_ok() || model.closed != [false; 2] || !model.fits(len.into()));
        }
        Op::Recv => match receiver.try_recv() {
            Ok(message) => assert_eq!(Some(message), model.messages.pop_front()),
            Err(error) => model.judge_empty(&error),
        },
        Op::RecvInPlace => match receiver.try_read() {
            Ok(message) => assert_eq!(Some(&*message), model.messages.pop_front().as_deref()),
            Err(error) => model.judge_empty(&error),
        },
        Op::RecvMany(most) => {
            let mut messages = Vec::new();
            match receiver.try_recv_many(&mut messages, most.into()) {
                Ok(count) => {
                    assert!(count == messages.len() && count <= most.into());
                    assert!(messages.into_iter().eq(model.messages.drain(..count)));
                }
                Err(error) => model.judge_empty(&error),
            }
        }
        Op::Release(sends) => {
            let released = if sends { sender.release() } else { receiver.release() };
            let closed = model.closed[usize::from(!sends)];
            assert!(released.is_ok() || closed);
        }
        Op::CloseSender => {
            sender.close().unwrap();
            model.closed[0] = true;
        }
        Op::CloseReceiver => {
            receiver.close().unwrap();
            model.closed[1] = true;
            assert_eq!(receiver.recv(), Err(RecvError::Closed));
        }
    }
}
