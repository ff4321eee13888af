//! System calls, one family per file. Nothing here decides policy: each function does what its name says and
//! returns what the kernel said.

pub(crate) mod clock;
pub(crate) mod exec;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod map;
pub(crate) mod membarrier;
pub(crate) mod newborn;
pub(crate) mod packets;
pub(crate) mod pidfd;
pub(crate) mod random;
pub(crate) mod readiness;
pub(crate) mod robust_list;
pub(crate) mod socket;
pub(crate) mod uring;
