// Boost.Interprocess's message queue and mutex, for boost.rs. Whatever it throws ends the process.

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <cstddef>
#include <new>

namespace ip = boost::interprocess;

extern "C" {

// A queue without a name: processes that are forked afterwards share it.
void *peers_queue_new(const char *name, std::size_t most, std::size_t size) noexcept {
    auto *queue = new ip::message_queue(ip::create_only, name, most, size);
    ip::message_queue::remove(name);
    return queue;
}

void peers_queue_send(void *queue, const void *message, std::size_t size) noexcept {
    static_cast<ip::message_queue *>(queue)->send(message, size, 0);
}

std::size_t peers_queue_receive(void *queue, void *message, std::size_t size) noexcept {
    ip::message_queue::size_type received = 0;
    unsigned priority = 0;
    static_cast<ip::message_queue *>(queue)->receive(message, size, received, priority);
    return received;
}

std::size_t peers_mutex_size() noexcept { return sizeof(ip::interprocess_mutex); }

void peers_mutex_new(void *place) noexcept { new (place) ip::interprocess_mutex; }

void peers_mutex_lock(void *mutex) noexcept { static_cast<ip::interprocess_mutex *>(mutex)->lock(); }

void peers_mutex_unlock(void *mutex) noexcept { static_cast<ip::interprocess_mutex *>(mutex)->unlock(); }
}
