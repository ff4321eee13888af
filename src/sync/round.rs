//! The word of a barrier as one typed value.

use crate::error::BarrierError;

/// The state's bits of the word.
const STATE: u32 = (1 << 14) - 1;
const ROUND: u32 = STATE + 1;
const ACTING: u32 = STATE;
/// Why it is broken is added.
const BROKEN: u32 = STATE - 8;

/// The word at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u32);

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// People arrive; the newest holds this slot.
    Open(Option<usize>),
    Acting,
    Broken(BarrierError),
}

impl Word {
    /// The word of the same round when nobody had arrived.
    pub(crate) fn empty(self) -> Word {
        Word(self.0 & !STATE)
    }

    /// The next round, in which nobody has arrived.
    pub(crate) fn next(self) -> Word {
        Word(self.empty().0.wrapping_add(ROUND))
    }

    pub(crate) fn with_newest(self, place: usize) -> Word {
        Word(self.empty().0 | (place as u32 + 1))
    }

    pub(crate) fn acting(self) -> Word {
        Word(self.empty().0 | ACTING)
    }

    pub(crate) fn broken(self, why: BarrierError) -> Word {
        Word(self.empty().0 | (BROKEN + why as u32))
    }

    /// The number in the list: 0 for nobody.
    pub(crate) fn newest(self) -> u32 {
        self.0 & STATE
    }

    pub(crate) fn round(self) -> u32 {
        self.0 / ROUND
    }

    pub(crate) fn state(self) -> State {
        match self.0 & STATE {
            ACTING => State::Acting,
            broken if broken >= BROKEN => State::Broken(match broken - BROKEN {
                0 => BarrierError::TimedOut,
                1 => BarrierError::Aborted,
                2 => BarrierError::ActionFailed,
                3 => BarrierError::PeerDied,
                _ => BarrierError::Reset,
            }),
            newest => State::Open(place(newest)),
        }
    }
}

/// The slot that a number of the list means: one less.
pub(crate) fn place(number: u32) -> Option<usize> {
    (number as usize).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use BarrierError::*;

    #[test]
    fn a_word_says_what_was_put_in() {
        let round = Word(7 * ROUND);
        assert_eq!(round.state(), State::Open(None));
        assert_eq!(round.with_newest(16_007).state(), State::Open(Some(16_007)));
        assert_eq!(round.with_newest(3).acting().state(), State::Acting);
        for why in [TimedOut, Aborted, ActionFailed, PeerDied, Reset] {
            assert_eq!(round.with_newest(3).broken(why).state(), State::Broken(why));
        }
        assert_eq!(round.broken(Reset).empty(), round);
        assert_eq!(round.acting().round(), 7);
    }

    #[test]
    fn rounds_wrap() {
        let last = Word(u32::MAX - (ROUND - 1));
        assert_eq!(last.round(), 262_143);
        assert_eq!(last.with_newest(5).next(), Word(0));
    }
}
