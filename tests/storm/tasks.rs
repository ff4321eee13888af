//! The second storm: eight workers share a `JoinableQueue`, and report each task once it is done.
//!
//! - *lost*: a task that nobody finished, or that was finished and not reported, beyond one for each killed worker;
//! - *doubled*: a task that was reported twice;
//! - *torn*, *stalled*: as in the first.

use std::time::{Duration, Instant};

use pshared::{JoinableQueue, PlainData, Queue, RecvTimeoutError};

use crate::{
    STALL, check,
    support::{Child, fork_child},
};

/// Its number, and a check on it.
type Work = [u64; 2];

const WORKERS: usize = 8;

struct Shop {
    tasks: JoinableQueue<Work, PlainData>,
    reports: Queue<Work, PlainData>,
}

impl Shop {
    fn worker(&self) -> Child {
        fork_child(|| {
            while let Ok(task) = self.tasks.recv() {
                let work = *task;
                task.done();
                self.reports.send(work).expect("nobody closes it");
            }
        })
    }
}

/// What was reported.
#[derive(Default)]
struct Books {
    /// For each number, how often.
    times: Vec<u8>,
    torn: u64,
    stalled: u64,
}

impl Books {
    fn enter(&mut self, [number, sum]: Work) {
        match self.times.get_mut(number as usize) {
            Some(times) if sum == check(0, number) => *times = times.saturating_add(1),
            _ => self.torn += 1,
        }
    }

    fn drain(&mut self, shop: &Shop) {
        while let Ok(work) = shop.reports.try_recv() {
            self.enter(work);
        }
    }
}

/// Runs it, tells what came of it, and returns how much damage there was.
pub fn storm(kills: u64, draw: &mut impl FnMut(u64) -> u64) -> u64 {
    let begun = Instant::now();
    let shop = Shop {
        tasks: JoinableQueue::builder(1024).takers(WORKERS).build_plain().expect("memory"),
        reports: Queue::plain(1 << 14).expect("memory"),
    };
    let mut books = Books::default();
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| shop.worker()).collect();
    for _ in 0..kills {
        let until = Instant::now() + Duration::from_micros(draw(300));
        while Instant::now() < until {
            let number = books.times.len() as u64;
            if shop.tasks.try_send([number, check(0, number)]).is_ok() {
                books.times.push(0);
                continue;
            }
            match shop.reports.recv_timeout(STALL) {
                Ok(work) => books.enter(work),
                Err(RecvTimeoutError::TimedOut) => {
                    books.stalled += 1;
                    eprintln!("stalled: {:?}, {:?}", shop.tasks, shop.reports);
                }
                Err(error) => panic!("{error}"),
            }
            books.drain(&shop);
        }
        let victim = &mut workers[draw(WORKERS as u64) as usize];
        victim.kill_now();
        *victim = shop.worker();
    }
    let mut end = Instant::now() + STALL;
    while !shop.tasks.join_timeout(Duration::from_millis(1)) {
        let before = shop.tasks.unfinished();
        books.drain(&shop);
        if shop.tasks.unfinished() < before {
            end = Instant::now() + STALL;
        } else if Instant::now() > end {
            books.stalled += 1;
            eprintln!("stalled at the end: {:?}", shop.tasks);
            break;
        }
    }
    let unfinished = shop.tasks.unfinished() as u64;
    shop.tasks.close();
    for worker in workers {
        while !worker.has_ended() {
            books.drain(&shop);
        }
        worker.join_ok();
    }
    books.drain(&shop);

    let missing = books.times.iter().filter(|&&times| times == 0).count() as u64;
    let doubled = books.times.iter().filter(|&&times| times > 1).count() as u64;
    let lost = unfinished + missing.saturating_sub(kills);
    let (tasks, seconds) = (books.times.len(), begun.elapsed().as_secs_f32());
    println!(
        "storm: {tasks} tasks, {missing} done by workers that died before they could say so, {seconds:.1} s"
    );
    println!(
        "storm: tasks: {kills} kills, {lost} lost, {doubled} doubled, {} torn, {} stalled",
        books.torn, books.stalled
    );
    lost + doubled + books.torn + books.stalled
}
