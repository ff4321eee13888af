//! What a process uses.

use std::{fs, io, time::Duration};

use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::os::pidfd::Account;

/// What a child and those of its descendants that it reaped itself used, from start to end.
///
/// # References
/// getrusage(2), wait4(2), proc_pid_stat(5), proc_pid_io(5).
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

impl Usage {
    /// What a living process has used, whose number is not used again while this is asked.
    pub(crate) fn of_process(pid: u32) -> io::Result<Usage> {
        Usage::of_living(Pid::from_raw(pid as i32))
    }

    /// What a living process of that number has used, as /proc tells it. Its own only: what its children used is added
    /// when it is reaped. Blocks are 0 where its I/O is not ours to see.
    pub(super) fn of_living(pid: Pid) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let field = |place: usize| fields.get(place).copied().unwrap_or(0);
        let ticks = sysconf(SysconfVar::CLK_TCK)?.filter(|&ticks| ticks > 0).unwrap_or(100) as u64;
        let time = |place| Duration::from_nanos(field(place).saturating_mul(1_000_000_000 / ticks));
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let switches = |name: &str| -> io::Result<u64> {
            let of_thread = |status: String| number_after(&status, name);
            let threads = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
            // A thread that ends meanwhile takes its count along.
            Ok(threads.flat_map(|task| fs::read_to_string(task.path().join("status"))).map(of_thread).sum())
        };
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        Ok(Usage {
            user_time: time(11),
            system_time: time(12),
            peak_memory: number_after(&status, "VmHWM:") * 1024,
            minor_faults: field(7),
            major_faults: field(9),
            voluntary_switches: switches("voluntary_ctxt_switches:")?,
            involuntary_switches: switches("nonvoluntary_ctxt_switches:")?,
            blocks_read: number_after(&io, "read_bytes:") / 512,
            blocks_written: number_after(&io, "write_bytes:") / 512,
        })
    }
}

/// The number in the line that begins with `name`; 0 if there is none.
fn number_after(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let text = "nonvoluntary_ctxt_switches:\t3\nvoluntary_ctxt_switches:\t7\nVmHWM:\t   12 kB\n";
        assert_eq!(number_after(text, "voluntary_ctxt_switches:"), 7);
        assert_eq!((number_after(text, "VmHWM:"), number_after(text, "VmRSS:")), (12, 0));
    }
}
