//! Instants on CLOCK_MONOTONIC, the one clock that every wait in this crate is measured by.

use std::time::Duration;

use nix::libc;

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// An instant on CLOCK_MONOTONIC: the same instant in every process of this machine.
///
/// A wait with a deadline ends at that instant however often it was interrupted or woken for nothing, so a loop
/// of several waits can share one.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let deadline = pshared::Deadline::after(Duration::from_millis(50));
/// assert!(!deadline.has_passed());
/// ```
///
/// # References
/// clock_gettime(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    secs: i64,
    nanos: i64,
}

impl Deadline {
    /// The instant `timeout` from now. A timeout beyond what the clock can count means "never".
    pub fn after(timeout: Duration) -> Deadline {
        let now = Deadline::now();
        let whole = i64::try_from(timeout.as_secs()).ok().and_then(|secs| now.secs.checked_add(secs));
        let nanos = now.nanos + i64::from(timeout.subsec_nanos());
        match whole.and_then(|secs| secs.checked_add(nanos / NANOS_PER_SEC)) {
            Some(secs) => Deadline { secs, nanos: nanos % NANOS_PER_SEC },
            None => Deadline { secs: i64::MAX, nanos: 0 },
        }
    }

    /// The present instant.
    pub fn now() -> Deadline {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a timespec of ours to write to; CLOCK_MONOTONIC exists on every Linux.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        Deadline { secs: now.tv_sec, nanos: now.tv_nsec }
    }

    /// Whether the instant lies in the past.
    pub fn has_passed(&self) -> bool {
        *self <= Deadline::now()
    }

    /// How long it is until then: zero when it has passed.
    pub fn remaining(&self) -> Duration {
        let now = Deadline::now();
        if *self <= now {
            return Duration::ZERO;
        }
        let (mut secs, mut nanos) = (self.secs - now.secs, self.nanos - now.nanos);
        if nanos < 0 {
            (secs, nanos) = (secs - 1, nanos + NANOS_PER_SEC);
        }
        Duration::new(secs.unsigned_abs(), nanos as u32)
    }

    /// Nanoseconds since the clock began, for what is shared; 0 is kept for "never".
    pub(crate) fn as_nanos(&self) -> u64 {
        (self.secs as u64).saturating_mul(NANOS_PER_SEC as u64).saturating_add(self.nanos as u64).max(1)
    }

    /// The way back.
    pub(crate) fn from_nanos(nanos: u64) -> Deadline {
        let per_sec = NANOS_PER_SEC as u64;
        Deadline { secs: (nanos / per_sec) as i64, nanos: (nanos % per_sec) as i64 }
    }

    /// The form in which the kernel takes it.
    pub(crate) fn as_timespec(&self) -> libc::timespec {
        libc::timespec { tv_sec: self.secs, tv_nsec: self.nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_far_beyond_the_clock_is_never() {
        let never = Deadline::after(Duration::MAX);
        assert!(!never.has_passed());
        assert!(never.remaining() > Duration::from_secs(1 << 40));
    }

    #[test]
    fn nanoseconds_carry_into_seconds() {
        let deadline = Deadline::after(Duration::from_nanos(1_999_999_999));
        assert!(deadline.nanos < NANOS_PER_SEC);
        let left = deadline.remaining();
        assert!(left > Duration::from_millis(1_500) && left <= Duration::from_nanos(1_999_999_999));
    }

    #[test]
    fn a_zero_timeout_has_passed_at_once() {
        assert!(Deadline::after(Duration::ZERO).has_passed());
    }
}
