//! A POSIX message queue, whose name goes as soon as it has one.

use std::{
    ffi::CString,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use nix::{
    mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink},
    sys::stat::Mode,
};

/// A queue of messages of one size, between processes that are forked afterwards.
pub struct MessageQueue(MqdT);

/// Bytes that the kernel grants a user's queues without asking, less what it takes for itself with each message.
const ALLOWED: usize = 800_000;

impl MessageQueue {
    /// For messages of `size` bytes; as many of them as may be, up to `most`. None if not even few may be so long.
    pub fn new(size: usize, most: usize) -> Option<MessageQueue> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("/pshared-peers-{}-{}", process::id(), MADE.fetch_add(1, Relaxed));
        let name = CString::new(name).expect("a name");
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        // Root may have what RLIMIT_MSGQUEUE grants, others what /proc/sys/fs/mqueue says.
        let sizes = [most.min(ALLOWED / (size + 128)), 10];
        let open = |many: usize| {
            let attributes = MqAttr::new(0, many as i64, size as i64, 0);
            mq_open(name.as_c_str(), flags, Mode::S_IRWXU, Some(&attributes))
        };
        let queue = sizes.into_iter().find_map(|many| open(many.max(1)).ok())?;
        mq_unlink(name.as_c_str()).expect("its name");
        Some(MessageQueue(queue))
    }

    pub fn send(&self, message: &[u8]) {
        mq_send(&self.0, message, 0).expect("mq_send");
    }

    pub fn receive(&self, message: &mut [u8]) {
        let size = mq_receive(&self.0, message, &mut 0).expect("mq_receive");
        assert_eq!(size, message.len(), "a whole message");
    }
}
