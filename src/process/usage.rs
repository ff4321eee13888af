//! What a process used in its life.

use std::time::Duration;

use crate::os::pidfd::Account;

/// What a child and those of its descendants that it reaped itself used, from start to end.
///
/// # References
/// getrusage(2), wait4(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time spent in the program.
    pub user_time: Duration,
    /// CPU time that the kernel spent on its behalf.
    pub system_time: Duration,
    /// The most memory that it had resident at a time, in bytes; what a fork copied counts.
    pub peak_memory: u64,
    /// Pages that came without reading from a device.
    pub minor_faults: u64,
    /// Pages that had to be read.
    pub major_faults: u64,
    /// How often it gave up the CPU by waiting.
    pub voluntary_switches: u64,
    /// How often the CPU was taken from it.
    pub involuntary_switches: u64,
    /// Blocks of 512 bytes that were read from devices for it.
    pub blocks_read: u64,
    /// Blocks of 512 bytes that are written to devices for it.
    pub blocks_written: u64,
}

impl Usage {
    /// All the CPU time.
    pub fn cpu_time(&self) -> Duration {
        self.user_time + self.system_time
    }
}

impl From<Account> for Usage {
    fn from(account: Account) -> Usage {
        Usage {
            user_time: account.user,
            system_time: account.system,
            peak_memory: account.peak_memory,
            minor_faults: account.minor_faults,
            major_faults: account.major_faults,
            voluntary_switches: account.voluntary_switches,
            involuntary_switches: account.involuntary_switches,
            blocks_read: account.blocks_read,
            blocks_written: account.blocks_written,
        }
    }
}
