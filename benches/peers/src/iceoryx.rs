//! iceoryx2: a publisher and a subscriber that loses nothing, in processes of their own.

use std::{
    fmt::Debug,
    hint::spin_loop,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use iceoryx2::{
    port::{publisher::Publisher, subscriber::Subscriber},
    prelude::*,
    service::port_factory::publish_subscribe::PortFactory,
};

/// A name that no other sample has.
pub fn name() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("pshared-peers/{}/{}", process::id(), MADE.fetch_add(1, Relaxed))
}

/// A node and the service by that name, for messages of type `T`, `most` of which wait for the subscriber.
fn service<T: Debug + ZeroCopySend>(
    name: &str,
    most: usize,
) -> (Node<ipc::Service>, PortFactory<ipc::Service, T, ()>) {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>().expect("a node");
    let service = node
        .service_builder(&name.try_into().expect("a name"))
        .publish_subscribe::<T>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size(most)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
        .expect("a service");
    (node, service)
}

/// One who sends, and waits for room.
pub struct Sends<T: Debug + ZeroCopySend + 'static> {
    publisher: Publisher<ipc::Service, T, ()>,
    _node: Node<ipc::Service>,
}

/// One who receives, by polling.
pub struct Receives<T: Debug + ZeroCopySend + 'static> {
    subscriber: Subscriber<ipc::Service, T, ()>,
    _node: Node<ipc::Service>,
}

impl<T: Debug + ZeroCopySend + 'static> Sends<T> {
    pub fn new(name: &str, most: usize) -> Sends<T> {
        let (node, service) = service(name, most);
        let publisher = service
            .publisher_builder()
            .max_loaned_samples(2)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher");
        Sends { publisher, _node: node }
    }

    #[inline]
    pub fn copy(&self, message: T) {
        // Not said to how many: who has received the last message may be gone before it is counted.
        self.publisher.send_copy(message).expect("it is sent");
    }

    /// Sends memory of which `write` has written what the receiver will read.
    ///
    /// # Safety
    /// Whatever bytes stand in what `write` leaves alone, they are a `T`.
    #[inline]
    pub unsafe fn loan(&self, write: impl FnOnce(*mut T)) {
        let mut sample = self.publisher.loan_uninit().expect("a loan");
        write(sample.payload_mut().as_mut_ptr());
        // SAFETY: the caller's promise.
        let sample = unsafe { sample.assume_init() };
        sample.send().expect("it is sent");
    }
}

impl<T: Debug + ZeroCopySend + 'static> Receives<T> {
    pub fn new(name: &str, most: usize) -> Receives<T> {
        let (node, service) = service(name, most);
        let subscriber = service.subscriber_builder().create().expect("a subscriber");
        Receives { subscriber, _node: node }
    }

    /// Waits for a message and looks at it in place.
    #[inline]
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        loop {
            if let Some(sample) = self.subscriber.receive().expect("it is received") {
                return look(sample.payload());
            }
            spin_loop();
        }
    }
}
