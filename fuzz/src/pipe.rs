//! Operation lists against a connection that goes both ways, and against two plain queues.

use std::{collections::VecDeque, time::Duration};

use arbitrary::Arbitrary;
use pshared::{Connection, PipeRecvError, PipeSendError, duplex};

#[derive(Arbitrary, Debug)]
enum Op {
    Send(bool, Vec<u8>),
    /// So many bytes.
    SendMany(bool, u16),
    Recv(bool, u16),
    RecvTimeout(bool),
    Poll(bool),
    Close(bool),
}

/// What is on its way at most: the kernel keeps about 200 KiB.
const MOST: usize = 60_000;

pub fn run(data: &[u8]) {
    let Some(ops) = super::case::<Vec<Op>>(data) else { return };
    let (one, other) = duplex().unwrap();
    let mut ends: [Option<Connection>; 2] = [Some(one), Some(other)];
    // To each end.
    let mut on_their_way = [VecDeque::<Vec<u8>>::new(), VecDeque::new()];
    for op in ops {
        match op {
            Op::Send(..) | Op::SendMany(..) => {
                let (which, bytes) = match op {
                    Op::Send(which, bytes) => (which, bytes),
                    Op::SendMany(which, len) => (which, vec![len as u8; len.into()]),
                    _ => unreachable!(),
                };
                let (from, to) = (usize::from(which), usize::from(!which));
                let Some(end) = &ends[from] else { continue };
                let used: usize = on_their_way[to].iter().map(|bytes| bytes.len() + 1000).sum();
                if used + bytes.len() > MOST {
                    continue;
                }
                match end.try_send_bytes(&bytes) {
                    Ok(()) => on_their_way[to].push_back(bytes),
                    Err(PipeSendError::Disconnected) => assert!(ends[to].is_none()),
                    Err(PipeSendError::Full) => assert!(used > 0),
                    Err(error) => panic!("{error:?}"),
                }
            }
            Op::Recv(..) | Op::RecvTimeout(_) => {
                let (which, limit) = match op {
                    Op::Recv(which, limit) => (which, usize::from(limit)),
                    Op::RecvTimeout(which) => (which, usize::MAX),
                    _ => unreachable!(),
                };
                let to = usize::from(which);
                let Some(end) = &ends[to] else { continue };
                let got = match op {
                    Op::Recv(..) => end.try_recv_bytes(limit),
                    _ => end.recv_bytes_timeout(limit, Duration::ZERO),
                };
                match got {
                    Ok(bytes) => assert_eq!(Some(bytes), on_their_way[to].pop_front()),
                    Err(PipeRecvError::TooLong { len, limit: told }) => {
                        assert!(on_their_way[to].front().is_some_and(|bytes| bytes.len() == len));
                        assert!(told == limit && len > limit);
                    }
                    Err(PipeRecvError::Empty | PipeRecvError::TimedOut) => {
                        assert!(on_their_way[to].is_empty() && ends[1 - to].is_some());
                    }
                    Err(PipeRecvError::Disconnected) => {
                        assert!(on_their_way[to].is_empty() && ends[1 - to].is_none());
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            Op::Poll(which) => {
                let to = usize::from(which);
                let Some(end) = &ends[to] else { continue };
                let ready = end.poll(Some(Duration::ZERO)).unwrap();
                assert_eq!(ready, !on_their_way[to].is_empty() || ends[1 - to].is_none());
            }
            Op::Close(which) => ends[usize::from(which)] = None,
        }
    }
}
