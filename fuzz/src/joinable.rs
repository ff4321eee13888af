//! Operation lists against a queue of tasks and against a plain model: what is sent is handed out again until it is
//! finished, or has become a dead letter, and counted once.

use std::{collections::VecDeque, time::Duration};

use arbitrary::Arbitrary;
use pshared::{Capacity, JoinableQueue, Task, TryRecvError, TrySendError};

#[derive(Arbitrary, Debug)]
enum Op {
    Send(u8),
    Take,
    Finish(u8),
    GiveBack(u8),
    /// Out of its guard; to be finished by `task_done`.
    Keep(u8),
    TaskDone,
    Letters,
    Join,
    Close,
}

#[derive(Arbitrary, Debug)]
struct Case {
    items: u8,
    takers: u8,
    letters: u8,
    deliveries: u8,
    ops: Vec<Op>,
}

/// An item that is not finished: its number, and how often it was handed out.
type Item = (u64, u32);

pub fn run(data: &[u8]) {
    let Some(case) = super::case::<Case>(data) else { return };
    let items = 1 + usize::from(case.items % 12);
    let (takers, letters) = (1 + usize::from(case.takers % 6), usize::from(case.letters % 4));
    let deliveries = 1 + u32::from(case.deliveries % 4);
    let queue: JoinableQueue<(u64, Vec<u8>)> = JoinableQueue::builder(Capacity::bytes(4096).items(items))
        .takers(takers)
        .dead_letters(letters)
        .deliveries(deliveries)
        .longest(400)
        .build()
        .unwrap();
    let mut waiting: VecDeque<u64> = VecDeque::new();
    let mut returned: Vec<Item> = Vec::new();
    let mut held: Vec<Task<'_, (u64, Vec<u8>)>> = Vec::new();
    let mut kept: VecDeque<Item> = VecDeque::new();
    let (mut buried, mut next, mut closed) = (Vec::<Item>::new(), 0_u64, false);
    for op in case.ops {
        match op {
            Op::Send(len) => match queue.try_send((next, vec![next as u8; len.into()])) {
                Ok(()) => {
                    assert!(!closed && waiting.len() < items);
                    waiting.push_back(next);
                    next += 1;
                }
                Err(TrySendError::Full(_)) => assert!(!closed && !waiting.is_empty()),
                Err(TrySendError::Closed(_)) => assert!(closed),
                Err(error) => panic!("{error:?}"),
            },
            Op::Take => {
                let got = queue.try_recv();
                // What was given back too often is buried on the way, as long as there is room.
                match got {
                    Ok(task) => {
                        let (number, bytes) = &*task;
                        assert!(bytes.iter().all(|&byte| byte == *number as u8));
                        if task.deliveries() == 1 {
                            assert_eq!(Some(*number), waiting.pop_front());
                        } else {
                            let item = (*number, task.deliveries() - 1);
                            let place = returned.iter().position(|&other| other == item).expect("given back");
                            returned.swap_remove(place);
                        }
                        held.push(task);
                    }
                    Err(TryRecvError::Empty) => {
                        assert!(!closed || [waiting.len(), returned.len(), held.len(), kept.len()] != [0; 4])
                    }
                    Err(TryRecvError::Closed) => assert!(closed && waiting.is_empty()),
                    Err(TryRecvError::TooManyTasks { held: told }) => {
                        assert!(told == held.len() + kept.len() && told > 0);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            Op::Finish(nth) if !held.is_empty() => held.swap_remove(usize::from(nth) % held.len()).done(),
            Op::GiveBack(nth) if !held.is_empty() => {
                let task = held.swap_remove(usize::from(nth) % held.len());
                returned.push((task.0, task.deliveries()));
                task.give_back();
            }
            Op::Keep(nth) if !held.is_empty() => {
                let task = held.swap_remove(usize::from(nth) % held.len());
                kept.push_back((task.0, task.deliveries()));
                drop(task.into_inner());
            }
            Op::TaskDone => assert_eq!(queue.task_done().is_ok(), kept.pop_front().is_some()),
            Op::Letters => {
                for letter in queue.dead_letters() {
                    let letter = letter.unwrap();
                    buried.push((letter.item.0, letter.deliveries));
                }
            }
            Op::Join => {
                assert_eq!(queue.join_timeout(Duration::ZERO), queue.unfinished() == 0);
            }
            Op::Close => {
                queue.close();
                closed = true;
            }
            Op::Finish(_) | Op::GiveBack(_) | Op::Keep(_) => {}
        }
        // What became a letter is not unfinished any more, and told apart when the letters are opened.
        let open = waiting.len() + returned.len() + held.len() + kept.len();
        let letters_inside = open - queue.unfinished();
        assert!(letters_inside <= returned.len() && letters_inside <= letters + buried.len());
        returned.retain(|item| {
            let is_buried = buried.iter().position(|letter| letter == item);
            is_buried.map(|place| buried.swap_remove(place)).is_none()
        });
        assert!(buried.is_empty(), "{buried:?}");
    }
    // What this thread kept it would keep for ever, and the memory with it.
    while queue.task_done().is_ok() {}
}
