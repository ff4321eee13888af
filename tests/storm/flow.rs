//! A flow of messages of 0 to 64 KiB through one queue, from two senders to two receivers, and nobody is killed.
//!
//! A message is its number, and what follows from that: a length, and bytes of one value. Short ones are the most, so
//! that the flow is one of messages and not of bytes. Every 64th is empty.
//!
//! - *lost*, *doubled*: the count, the sum of the numbers or the sum of their squares is not that of what was sent;
//! - *torn*: a message with another length or other contents than its number says.

use std::time::Instant;

use pshared::{Array, Queue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::support::{Child, fork_child, random::Random};

const SENDERS: u64 = 2;
const RECEIVERS: usize = 2;
/// In bytes.
const LONGEST: u64 = 64 << 10;
/// What a number takes.
const NUMBER: usize = size_of::<u64>();

/// A number, then as many bytes as follow from it; or nothing at all.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Message;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Message, E> {
                Ok(Message(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

fn is_empty(number: u64) -> bool {
    number.is_multiple_of(64)
}

/// What follows from a number: how many bytes come behind it, and what they are.
fn shape(number: u64, seed: u64) -> (usize, u8) {
    let mut random = Random((number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.below(2);
    let mut power = || random.below(u64::from(LONGEST.ilog2()) + 1);
    let power = power().min(power()).min(power());
    let most = (1 << power).min(LONGEST - NUMBER as u64);
    (random.below(most + 1) as usize, random.below(256) as u8)
}

/// Enters a message into the sums of its receiver.
fn enter(bytes: &[u8], seed: u64, [messages, all, numbers, squares, torn]: &mut [u64; 5]) {
    *messages += 1;
    *all += bytes.len() as u64;
    let Some((number, rest)) = bytes.split_first_chunk::<NUMBER>() else {
        // Only an empty one is so short.
        *torn += u64::from(!bytes.is_empty());
        return;
    };
    let number = u64::from_ne_bytes(*number);
    let (len, byte) = shape(number, seed);
    *numbers = numbers.wrapping_add(number);
    *squares = squares.wrapping_add(number.wrapping_mul(number));
    *torn += u64::from(rest.len() != len || rest.iter().any(|&found| found != byte));
}

/// Sends so many messages, tells what came of them, and returns how much damage there was.
pub fn run(messages: u64, draw: &mut impl FnMut(u64) -> u64) -> u64 {
    let seed = draw(1 << 32);
    let begun = Instant::now();
    let queue: Queue<Message> = Queue::new(1 << 20).expect("memory");
    let children = (0..SENDERS).map(|sender| {
        fork_child(|| {
            for number in (sender..messages).step_by(SENDERS as usize) {
                let (len, byte) = shape(number, seed);
                let mut bytes = Vec::with_capacity(NUMBER + len);
                if !is_empty(number) {
                    bytes.extend(number.to_ne_bytes());
                    bytes.resize(NUMBER + len, byte);
                }
                queue.send(Message(bytes)).expect("nobody closes it before the end");
            }
        })
    });
    let children: Vec<_> = children.collect();
    // Of each receiver: messages, bytes, the sums of the numbers and of their squares, and how many were torn.
    let sums = Array::<[u64; 5]>::zeroed(RECEIVERS).expect("memory");
    let receivers = (0..RECEIVERS).map(|receiver| {
        fork_child(|| {
            let mut sum = [0; 5];
            while let Ok(Message(bytes)) = queue.recv() {
                enter(&bytes, seed, &mut sum);
            }
            sums.set(receiver, sum).expect("nobody dies");
        })
    });
    let receivers: Vec<_> = receivers.collect();
    children.into_iter().for_each(Child::join_ok);
    queue.close();
    receivers.into_iter().for_each(Child::join_ok);

    let sums = sums.to_vec().expect("nobody died");
    let total = |at: usize| sums.iter().fold(0, |sum: u64, of| sum.wrapping_add(of[at]));
    let expected = (0..messages)
        .filter(|&number| !is_empty(number))
        .fold([0_u64; 2], |[sum, squares], n| [sum.wrapping_add(n), squares.wrapping_add(n.wrapping_mul(n))]);
    let differences =
        [total(0).abs_diff(messages), total(2).abs_diff(expected[0]), total(3).abs_diff(expected[1])];
    let wrong = u64::from(differences != [0; 3]).max(differences[0]);
    let (bytes, torn, seconds) = (total(1), total(4), begun.elapsed().as_secs_f32());
    println!("storm: flow: {messages} messages of 0 to {LONGEST} bytes, {bytes} bytes, {seconds:.1} s");
    println!("storm: flow: {wrong} lost or doubled, {torn} torn");
    wrong + torn
}
