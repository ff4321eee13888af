use super::*;
use crate::queue::doorbell::COUNT_MASK;

fn queue(capacity: usize) -> RawQueue {
    let region = Region::anonymous(capacity + 4096).unwrap();
    RawQueue::new_in(&region, RawQueue::bounds(capacity, None, 0).unwrap()).unwrap()
}

fn received(queue: &RawQueue) -> Result<Vec<u8>, NotReceived> {
    let mut landing = Vec::new();
    queue.recv(&mut landing, Patience::None).map(|()| landing)
}

#[test]
fn counts_and_positions_wrap() {
    let queue = queue(192);
    // 24 units of 8 bytes: positions wrap at 48, counts at 2^30.
    for (count, position) in [(COUNT_MASK, 0), (COUNT_MASK - 3, 47), (5, 46), (0, 24), (COUNT_MASK, 23)] {
        queue.start_at(count, position);
        for round in 0..100_u8 {
            let lengths = [usize::from(round) % 41, 0, 16];
            lengths.iter().for_each(|&len| queue.send(&vec![round; len], Patience::None).unwrap());
            assert_eq!(queue.len(), 3);
            lengths.iter().for_each(|&len| assert_eq!(received(&queue).unwrap(), vec![round; len]));
            assert_eq!(received(&queue), Err(NotReceived::Empty));
        }
    }
}

#[test]
fn the_longest_payload_fits_wherever_the_ring_stands() {
    let queue = queue(64);
    for position in 0..16 {
        queue.start_at(7, position);
        let longest: Vec<u8> = (0..queue.max_len() as u8).collect();
        queue.send(&longest, Patience::None).unwrap();
        assert_eq!(queue.send(&[], Patience::None), Err(NotSent::Full));
        assert_eq!(received(&queue).unwrap(), longest);
    }
}

#[test]
fn a_closed_queue_drains() {
    let queue = queue(64);
    queue.send(b"last", Patience::None).unwrap();
    queue.close();
    assert_eq!(queue.send(b"late", Patience::FOREVER), Err(NotSent::Closed));
    assert_eq!(received(&queue).unwrap(), b"last");
    assert_eq!(received(&queue), Err(NotReceived::Closed));
    assert_eq!(queue.recv(&mut Vec::new(), Patience::FOREVER), Err(NotReceived::Closed));
}
