//! Whether one end of a ring lets the other go on for a moment before it looks at it.
//!
//! A look takes the line on which the other end commits, and at its next commit the other waits until it has it back:
//! 70 ns, where a message takes 20. Two ends that look after every message hold each other up all the time; if the one
//! that is faster waits for a moment before it looks, it finds a dozen messages, or room for a dozen, and both go on
//! undisturbed. But where the other waits for an answer to each message, or takes long over each, no more come, and
//! the moment is lost. So an end tries it now and then: if a look after a moment finds several, it goes on so, until
//! a row of looks finds few; if not, it tries it ever less often.
//!
//! Only the end's holder reads and writes these words. They are a hint: garbage costs at most a moment at each look.

use super::{AtomicU32, Relaxed, pause};

/// A moment, in pauses.
const MOMENT: u32 = 15;
/// What a look must find for a moment to be worth while.
const SEVERAL: u32 = 4;
/// Looks in a row that find fewer, until no more moments are spent.
const FEW: u32 = 16;
/// Looks from one try to the next: at first, and at most.
const FIRST: u32 = 32;
const LAST: u32 = 4_096;

/// See the module.
#[repr(C)]
pub(crate) struct Pace {
    /// The looks to come that wait.
    moments: AtomicU32,
    /// The looks before the next try.
    left: AtomicU32,
    between: AtomicU32,
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace { moments: AtomicU32::new(0), left: AtomicU32::new(FIRST), between: AtomicU32::new(FIRST) }
    }

    /// Before a look.
    #[inline]
    pub(crate) fn wait(&self) {
        // ORDERING: Relaxed in all of this, hints of one holder.
        if self.moments.load(Relaxed) > 0 {
            pause(MOMENT);
            return;
        }
        let left = self.left.load(Relaxed);
        if left > 0 {
            self.left.store(left - 1, Relaxed);
            return;
        }
        self.left.store(self.between.load(Relaxed), Relaxed);
        self.moments.store(1, Relaxed);
        pause(MOMENT);
    }

    /// After a look that has found so many.
    #[inline]
    pub(crate) fn learn(&self, found: u32) {
        let moments = self.moments.load(Relaxed);
        if moments == 0 {
            return;
        }
        let next = if found >= SEVERAL { FEW } else { moments.min(FEW) - 1 };
        self.moments.store(next, Relaxed);
        if next == 0 {
            let between = self.between.load(Relaxed).saturating_mul(2).min(LAST);
            self.between.store(between, Relaxed);
        } else if next > moments {
            self.between.store(FIRST, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of so many looks waited; they find `found`, given that.
    fn looks(pace: &Pace, looks: usize, found: impl Fn(bool) -> u32) -> Vec<bool> {
        let look = || {
            pace.wait();
            let waited = pace.moments.load(Relaxed) > 0;
            pace.learn(found(waited));
            waited
        };
        std::iter::repeat_with(look).take(looks).collect()
    }

    #[test]
    fn a_stream_of_which_each_look_finds_one_is_noticed() {
        let pace = Pace::new();
        let seen = looks(&pace, 100, |waited| if waited { 12 } else { 1 });
        assert_eq!(seen[..32], [false; 32]);
        assert_eq!(seen[32..], [true; 68]);
        // When it ends, so do the moments.
        let seen = looks(&pace, 40, |_| 1);
        assert_eq!(seen[..16], [true; 16]);
        assert_eq!(seen[16..], [false; 24]);
    }

    #[test]
    fn where_no_moment_helps_it_is_tried_less_and_less() {
        let pace = Pace::new();
        let waited = looks(&pace, 100_000, |_| 1).into_iter().filter(|&waited| waited).count();
        // After 32 looks, and after 32, 64, ... 2,048 more; then after every 4,096.
        assert_eq!(waited, 1 + 7 + (100_000 - (4_096 + 8)) / 4_097);
    }

    #[test]
    fn garbage_costs_a_moment_at_each_look() {
        let pace = Pace {
            moments: AtomicU32::new(u32::MAX),
            left: AtomicU32::new(u32::MAX),
            between: AtomicU32::new(u32::MAX),
        };
        assert_eq!(looks(&pace, 40, |_| 1)[..16], [true; 16]);
        assert_eq!(looks(&pace, 40, |_| 9), [false; 40]);
    }
}
