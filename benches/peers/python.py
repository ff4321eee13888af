"""What Python's multiprocessing takes for what the rows of the comparison do. Prints nanoseconds an operation.

Arguments: the two CPUs, the seconds that a sample measures, and what to measure.
"""

import multiprocessing as mp
import os
import statistics
import sys
import time
from multiprocessing import shared_memory

FIRST, LAST, EFFORT = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
WORDS = sys.argv[4:]


def stay_on(cpu):
    os.sched_setaffinity(0, {cpu})


def alone(operation):
    """The median over chunks of some 2 ms, on one CPU."""
    stay_on(LAST)
    many = 1
    while chunk(operation, many) * many < 2e6:
        many *= 2
    end, chunks = time.monotonic() + EFFORT, []
    while not chunks or time.monotonic() < end:
        chunks.append(chunk(operation, many))
    return statistics.median(chunks)


def chunk(operation, many):
    begun = time.perf_counter_ns()
    for _ in range(many):
        operation()
    return (time.perf_counter_ns() - begun) / many


def lock():
    own = mp.Lock()

    def both():
        own.acquire()
        own.release()

    return alone(both)


def semaphore():
    own = mp.Semaphore(1)

    def both():
        own.acquire()
        own.release()

    return alone(both)


def region():
    def both():
        memory = shared_memory.SharedMemory(create=True, size=1 << 20)
        memory.close()
        memory.unlink()

    return alone(both)


def array(size, way):
    own = mp.Array("B", int(size))
    view, plain = memoryview(own.get_obj()).cast("B"), bytearray(int(size))

    def write():
        with own.get_lock():
            view[:] = plain

    def read():
        with own.get_lock():
            plain[:] = view

    return alone(write if way == "write" else read)


def trips(places, ping, pong):
    """The median of chunks of 64 round trips between this process and a forked one."""
    last, both = mp.Value("q", 1 << 62, lock=False), mp.Barrier(2)

    def second():
        stay_on(places[1])
        both.wait()
        done = 0
        while done < last.value:
            pong()
            done += 1

    child = mp.Process(target=second)
    child.start()
    stay_on(places[0])
    both.wait()
    end, chunks, done = time.monotonic() + EFFORT, [], 0
    while done < last.value:
        chunks.append(chunk(ping, 64))
        done += 64
        if last.value == 1 << 62 and time.monotonic() >= end:
            last.value = done + 64
    child.join()
    return statistics.median(chunks)


def semaphores():
    there, back = mp.Semaphore(0), mp.Semaphore(0)

    def ping():
        there.release()
        back.acquire()

    def pong():
        there.acquire()
        back.release()

    return trips((LAST, LAST), ping, pong)


def event():
    there, back = mp.Event(), mp.Event()

    def ping():
        there.set()
        back.wait()
        back.clear()

    def pong():
        there.wait()
        there.clear()
        back.set()

    return trips((LAST, LAST), ping, pong)


def condition():
    own, turn = mp.Lock(), mp.Value("i", 0, lock=False)
    ways = [mp.Condition(own), mp.Condition(own)]

    def give(other):
        with ways[other]:
            turn.value = other
            ways[other].notify()

    def wait(mine):
        with ways[mine]:
            while turn.value != mine:
                ways[mine].wait()

    def ping():
        give(1)
        wait(0)

    def pong():
        wait(1)
        give(0)

    return trips((LAST, LAST), ping, pong)


def way(kind):
    """How to send to another process, and how to receive what was sent."""
    if kind == "queue":
        queue = mp.Queue()
        return queue.put, queue.get
    reader, writer = mp.Pipe(duplex=False)
    return writer.send_bytes, reader.recv_bytes


def round_trips(kind, cpus):
    (there, take), (back, answer) = way(kind), way(kind)
    message = b"12345678"

    def ping():
        there(message)
        assert answer() == message

    return trips((FIRST if cpus == "2" else LAST, LAST), ping, lambda: back(take()))


def stream(kind, size):
    send, receive = way(kind)
    messages = [bytes([number]) * int(size) for number in range(16)]
    last, both, ended = mp.Value("q", 1 << 62, lock=False), mp.Barrier(2), mp.Value("q", 0, lock=False)

    def second():
        stay_on(LAST)
        both.wait()
        received = 0
        while received < last.value:
            for message in messages:
                assert receive() == message, "a message out of order"
            received += 16
        ended.value = time.monotonic_ns()

    child = mp.Process(target=second)
    child.start()
    stay_on(FIRST)
    both.wait()
    begun, sent = time.monotonic_ns(), 0
    while sent < last.value:
        if last.value == 1 << 62 and (time.monotonic_ns() - begun) / 1e9 >= EFFORT:
            last.value = sent + 16
        for message in messages:
            send(message)
        sent += 16
    child.join()
    assert child.exitcode == 0
    return (ended.value - begun) / sent


def crowd(pairs, size):
    pairs, size = int(pairs), int(size)
    each = max(64, int(EFFORT * 1e9 / 6000 / pairs))
    queue, together = mp.Queue(1024), mp.Barrier(2 * pairs + 1)
    message = bytes(size)

    def send(cpu):
        stay_on(cpu)
        together.wait()
        for _ in range(each):
            queue.put(message)

    def receive(cpu):
        stay_on(cpu)
        together.wait()
        for _ in range(each):
            assert queue.get() == message

    roles = [send] * pairs + [receive] * pairs
    cpus = (FIRST, LAST)
    children = [mp.Process(target=role, args=(cpus[own % 2],)) for own, role in enumerate(roles)]
    for child in children:
        child.start()
    together.wait()
    begun = time.monotonic_ns()
    for child in children:
        child.join()
        assert child.exitcode == 0
    return (time.monotonic_ns() - begun) / (each * pairs)


def value():
    own, together = mp.Value("q", 0), mp.Barrier(2)
    counts = mp.Array("q", 2, lock=False)

    def add(who, cpu):
        stay_on(cpu)
        together.wait()
        end, added = time.monotonic() + EFFORT, 0
        while time.monotonic() < end:
            for _ in range(100):
                with own.get_lock():
                    own.value += 1
            added += 100
        counts[who] = added

    child = mp.Process(target=add, args=(1, LAST))
    child.start()
    add(0, FIRST)
    child.join()
    assert own.value == sum(counts)
    return EFFORT * 1e9 / sum(counts)


def nothing():
    pass


def start(method):
    context = mp.get_context(method)

    def once():
        child = context.Process(target=nothing)
        child.start()
        child.join()

    once()
    end, chunks = time.monotonic() + EFFORT, []
    while not chunks or time.monotonic() < end:
        chunks.append(chunk(once, 1))
    return statistics.median(chunks)


def square(number):
    return number * number


def same(argument):
    return argument


def pool(what, length=None):
    with mp.Pool(2) as workers:
        workers.map(square, range(1000), 1)
        if what == "map":
            items, figures = 20_000 if length == "1" else 1_000_000, []
            size = 1 if length == "1" else None
            while len(figures) < 3:
                begun = time.perf_counter_ns()
                values = workers.map(square, range(items), size)
                figures.append((time.perf_counter_ns() - begun) / items)
                assert values[999] == 999 * 999
            return statistics.median(figures)
        function, argument = (same, bytes(1 << 20)) if what == "large" else (square, 7)

        def once():
            workers.apply_async(function, (argument,)).get()

        end, chunks = time.monotonic() + EFFORT, []
        while len(chunks) < 3 or time.monotonic() < end:
            chunks.append(chunk(once, 16))
        return statistics.median(chunks)


SUBJECTS = {
    "lock": lock, "semaphore": semaphore, "semaphores": semaphores, "event": event, "condition": condition,
    "trips": round_trips, "stream": stream, "crowd": crowd, "value": value, "array": array, "region": region,
    "start": start, "pool": pool,
}

if __name__ == "__main__":
    print(SUBJECTS[WORDS[0]](*WORDS[1:]))
