//! getrandom(2).

use std::process;

use nix::libc;

use crate::os::clock::Deadline;

/// 64 random bits. Where the call is forbidden, the time and the process id have to do.
pub(crate) fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: `bytes` is writable for its length. Eight bytes come whole or not at all.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as libc::ssize_t {
        return u64::from_ne_bytes(bytes);
    }
    let now = Deadline::now().as_timespec();
    let mixed = (now.tv_nsec as u64) << 32 ^ (now.tv_sec as u64) ^ u64::from(process::id()).rotate_left(20);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_repeat_itself() {
        assert_ne!(random(), random());
    }
}
