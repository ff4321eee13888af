//! membarrier(2): a full barrier on every CPU that runs one of the processes that asked for it.
//!
//! Whoever registers is inherited by its forked children, and forgotten by exec. A barrier takes half a microsecond,
//! which its caller pays; those who are interrupted by it pay less than for one fence of their own.

use std::sync::OnceLock;

use nix::libc;

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Lets barriers reach this process and its children to come; says whether they will.
pub(crate) fn register() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| call(REGISTER_GLOBAL_EXPEDITED) && call(GLOBAL_EXPEDITED))
}

/// Has every running thread of the registered processes pass a full barrier, the calling thread included. False if
/// that is forbidden here: then nothing has happened.
pub(crate) fn all() -> bool {
    call(GLOBAL_EXPEDITED)
}

fn call(command: libc::c_int) -> bool {
    // SAFETY: no pointers; no flags, no CPU.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_registers_may_ask() {
        assert_eq!(register(), all());
        assert_eq!(register(), register());
    }
}
