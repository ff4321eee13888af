//! How far apart the two CPUs are at the moment: on a shared machine that changes, and everything changes with it.

use std::{
    fmt,
    hint::spin_loop,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire},
    },
    time::Duration,
};

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};

use crate::{
    drive::{APART, round_trips_for},
    parties::{Line, Mode, shared},
};

/// The distance of two CPUs, by the round trip of two words between them. That the hyperthreads of one core, one cache
/// and several stand behind the names is a guess: a virtual machine does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// No second CPU is involved, or it does not matter where it is.
    Any,
    Smt,
    Near,
    Far,
}

impl Distance {
    /// The class of a round trip of so many nanoseconds.
    pub fn of(round_trip: f64) -> Distance {
        match round_trip {
            ..45.0 => Distance::Smt,
            ..180.0 => Distance::Near,
            _ => Distance::Far,
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Distance::Any => "any",
            Distance::Smt => "smt",
            Distance::Near => "near",
            Distance::Far => "far",
        })
    }
}

/// Two words, each written by one side. The fastest of four ways: an exchange goes out at once, where a store would
/// wait in the CPU's buffer, and pauses leave the line to who writes it.
#[derive(Debug, Zeroable)]
pub struct Words {
    there: Line<AtomicU64>,
    back: Line<AtomicU64>,
}

impl Words {
    #[inline]
    pub fn ping(&self, trip: u64) {
        self.there.0.swap(trip, AcqRel);
        while self.back.0.load(Acquire) != trip {
            spin_loop();
        }
    }

    #[inline]
    pub fn pong(&self, trip: u64) {
        while self.there.0.load(Acquire) != trip {
            spin_loop();
        }
        self.back.0.swap(trip, AcqRel);
    }
}

/// Nanoseconds of a round trip between the two CPUs by bare words, measured for so long.
pub fn round_trip(time: Duration) -> f64 {
    let words: &Words = shared();
    let (mut pinged, mut ponged) = (0, 0);
    let ping = || {
        move || {
            pinged += 1;
            words.ping(pinged);
        }
    };
    let pong = || {
        move || {
            ponged += 1;
            words.pong(ponged);
        }
    };
    round_trips_for(time, Mode::Processes, APART, ping, pong)
}

/// A short look at the distance, in nanoseconds.
pub fn probe() -> f64 {
    round_trip(Duration::from_micros(300))
}
