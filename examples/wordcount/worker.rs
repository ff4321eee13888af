//! A worker: takes jobs until there are none left, unless it is killed before.

use pshared::Queue;

use super::{
    counter::Counter,
    shared::{Counted, Job, Place, Report, Totals, stand_still},
};

/// Results travel in parts of at most this size.
const PART: usize = 64 << 10;

pub struct Worker<'a> {
    pub number: u32,
    pub jobs: &'a Queue<Job>,
    pub results: &'a Queue<Report>,
    pub totals: &'a Totals,
}

impl Worker<'_> {
    pub fn work(&self) {
        let mut counter = Counter::new();
        while let Ok(job) = self.jobs.recv() {
            if job.ambush == Some(Place::Anywhere) {
                self.say(Report::Ambushed { worker: self.number });
            }
            let (sums, unreadable) = counter.count_batch(&job.paths, || self.pass(&job, Place::Counting));
            self.totals.enter(job.batch, sums, || self.pass(&job, Place::Locked));
            self.send(&job, &Counted { sums, unreadable, words: counter.words() });
        }
        self.say(Report::Farewell { worker: self.number });
    }

    fn send(&self, job: &Job, counted: &Counted<'_>) {
        let encoded = postcard::to_stdvec(counted).expect("plain counts can be encoded");
        // Who is to be killed between two parts needs two.
        let size = if job.ambush.is_some() { encoded.len().div_ceil(2).min(PART) } else { PART };
        let mut parts = encoded.chunks(size).peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            if last {
                self.pass(job, Place::Parts);
                if job.ambush == Some(Place::Anywhere) {
                    stand_still();
                }
            }
            let bytes = part.to_vec();
            self.say(Report::Part { worker: self.number, batch: job.batch, last, bytes });
        }
    }

    /// Goes on, unless this is where the worker is to be killed.
    fn pass(&self, job: &Job, place: Place) {
        if job.ambush == Some(place) {
            self.say(Report::Ambushed { worker: self.number });
            stand_still();
        }
    }

    fn say(&self, report: Report) {
        self.results.send(report).expect("the parent never closes the results");
    }
}
