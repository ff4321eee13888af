//! iceoryx2: a publisher and a subscriber that loses nothing, in processes of their own.

use std::{
    fmt::Debug,
    hint::spin_loop,
    process,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use iceoryx2::{
    port::{publisher::Publisher, subscriber::Subscriber, update_connections::UpdateConnections},
    prelude::*,
    service::port_factory::{PortFactory as _, publish_subscribe::PortFactory},
};
use nix::sched::sched_yield;

use crate::parties::{Line, shared};

/// Where a publisher and a subscriber find each other: a name that no other sample has, and how far they are. To be
/// made before their processes are. Without it, messages that are sent before the subscriber looks are thrown away as
/// soon as there is no more room for them.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    stage: &'static Line<AtomicU32>,
}

/// The publisher knows of the subscriber.
const CONNECTED: u32 = 1;
/// And the subscriber of the publisher.
const ATTACHED: u32 = 2;

impl Place {
    pub fn new() -> Place {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("pshared-peers/{}/{}", process::id(), MADE.fetch_add(1, Relaxed));
        Place { name, stage: shared() }
    }

    fn wait_for(&self, stage: u32) {
        while self.stage.0.load(Acquire) != stage {
            sched_yield().expect("sched_yield");
        }
    }
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
    /// Waits for the subscriber.
    pub fn new(place: &Place, most: usize) -> Sends<T> {
        let (node, service) = service(&place.name, most);
        let publisher = service
            .publisher_builder()
            .max_loaned_samples(2)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher");
        while service.dynamic_config().number_of_subscribers() == 0 {
            sched_yield().expect("sched_yield");
        }
        publisher.update_connections().expect("a connection");
        place.stage.0.store(CONNECTED, Release);
        place.wait_for(ATTACHED);
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
    /// Waits for the publisher.
    pub fn new(place: &Place, most: usize) -> Receives<T> {
        let (node, service) = service(&place.name, most);
        let subscriber = service.subscriber_builder().create().expect("a subscriber");
        place.wait_for(CONNECTED);
        assert!(!subscriber.has_samples().expect("a connection"));
        place.stage.0.store(ATTACHED, Release);
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
