//! The word of a robust lock as one typed value.

use std::fmt;

use crate::primitive::{OWNER_DIED, TID_MASK, WAITERS};

/// TID in the low 30 bits, then OWNER_DIED, then WAITERS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerWord(pub(crate) u32);

impl OwnerWord {
    /// The TID of the owner; 0 when the lock is free.
    #[inline]
    pub(crate) fn owner(self) -> u32 {
        self.0 & TID_MASK
    }

    #[inline]
    pub(crate) fn is_free(self) -> bool {
        self.owner() == 0
    }

    /// Somebody sleeps, or soon will.
    #[inline]
    pub(crate) fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// The kernel found the last owner dead.
    #[inline]
    pub(crate) fn owner_died(self) -> bool {
        self.0 & OWNER_DIED != 0
    }

    /// The same word with WAITERS.
    #[inline]
    pub(crate) fn with_waiters(self) -> OwnerWord {
        OwnerWord(self.0 | WAITERS)
    }

    /// The same word without WAITERS.
    #[inline]
    pub(crate) fn without_waiters(self) -> OwnerWord {
        OwnerWord(self.0 & !WAITERS)
    }

    /// Owned by `tid`, WAITERS as before.
    #[inline]
    pub(crate) fn taken_by(self, tid: u32) -> OwnerWord {
        OwnerWord(self.0 & WAITERS | tid)
    }
}

impl fmt::Debug for OwnerWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner() {
            0 => f.write_str("free")?,
            tid => write!(f, "held by thread {tid}")?,
        }
        if self.owner_died() {
            f.write_str(", owner died")?;
        }
        if self.has_waiters() {
            f.write_str(", waiters")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_over_keeps_waiters_and_forgets_the_death() {
        let word = OwnerWord(OWNER_DIED | WAITERS);
        assert!(word.is_free() && word.owner_died() && word.has_waiters());
        assert_eq!(word.taken_by(77), OwnerWord(77 | WAITERS));
        assert_eq!(OwnerWord(OWNER_DIED).taken_by(77), OwnerWord(77));
    }

    #[test]
    fn it_reads_as_words() {
        assert_eq!(format!("{:?}", OwnerWord(0)), "free");
        assert_eq!(format!("{:?}", OwnerWord(5).with_waiters()), "held by thread 5, waiters");
        assert_eq!(format!("{:?}", OwnerWord(OWNER_DIED)), "free, owner died");
    }
}
