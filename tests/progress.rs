//! A bar over a pool's iterators (feature `progress`).

mod support;

use std::{
    io,
    process::ExitCode,
    sync::mpsc::{self, Sender},
};

use indicatif::{ProgressBar, ProgressDrawTarget};
use pshared::{Event, Pool, TaskError};

fn main() -> ExitCode {
    support::main(support::tests![
        a_bar_moves_by_one_for_each_value,
        a_bar_has_a_length_if_the_input_has_one,
        a_bar_is_abandoned_where_a_map_is_dropped,
        a_bar_that_is_seen_is_drawn_while_nothing_comes,
        no_thread_is_started_for_a_bar,
        a_map_says_how_many_values_there_can_be,
    ])
}

fn square(n: u64) -> u64 {
    assert_ne!(n, 13);
    n * n
}

fn pool() -> Pool {
    Pool::builder().workers(2).build().unwrap()
}

fn a_bar_moves_by_one_for_each_value() {
    let (pool, bar) = (pool(), ProgressBar::hidden());
    let mut values = pool.imap(square, 10..15).progress(bar.clone());
    for n in 10..15 {
        assert_eq!(bar.position(), n - 10);
        let value = values.next().unwrap();
        assert!(if n == 13 { matches!(value, Err(TaskError::Panicked { .. })) } else { value == Ok(n * n) });
    }
    assert!(!bar.is_finished());
    assert!(values.next().is_none() && values.next().is_none());
    assert!(bar.is_finished() && bar.position() == 5);

    // In chunks, and out of order.
    let bar = ProgressBar::hidden();
    let chunk = std::num::NonZeroUsize::new(7).unwrap();
    assert_eq!(pool.imap_unordered_chunked(square, 20..50, chunk).progress(bar.clone()).count(), 30);
    assert!(bar.is_finished() && bar.position() == 30);
}

fn a_bar_has_a_length_if_the_input_has_one() {
    let pool = pool();
    let length = |bar: &ProgressBar, items: &mut dyn Iterator<Item = u64>, exact: bool| {
        let items: Vec<u64> = items.collect();
        if exact {
            drop(pool.imap(square, items).progress(bar.clone()));
        } else {
            drop(pool.imap(square, items.into_iter().filter(|n| *n > 0)).progress(bar.clone()));
        }
        bar.length()
    };
    assert_eq!(length(&ProgressBar::no_length(), &mut (0..9), true), Some(9));
    assert_eq!(length(&ProgressBar::no_length(), &mut (0..9), false), None);
    assert_eq!(length(&ProgressBar::new(4), &mut (0..9), true), Some(4));
    // What has come home by itself counts no more.
    let (mut begun, bar) = (pool.imap(square, 0..9), ProgressBar::no_length());
    begun.next();
    drop(begun.progress(bar.clone()));
    assert_eq!(bar.length(), Some(8));
}

fn a_bar_is_abandoned_where_a_map_is_dropped() {
    let (pool, bar) = (pool(), ProgressBar::hidden());
    bar.set_length(100);
    let mut values = pool.imap_unordered(square, 20..120).progress(bar.clone());
    values.by_ref().take(3).for_each(drop);
    drop(values);
    assert!(bar.is_finished() && bar.position() == 3);
}

/// A terminal that tells of each time that something is written to it.
#[derive(Debug)]
struct Screen(Sender<()>);

impl indicatif::TermLike for Screen {
    fn width(&self) -> u16 {
        60
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn write_str(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        // Who listens may have heard enough.
        let _ = self.0.send(());
        Ok(())
    }
}

thread_local! {
    static GATE: std::cell::RefCell<Option<Event>> = const { std::cell::RefCell::new(None) };
}

/// The task waits until the bar was drawn three times more, which nobody but its waiter can do.
fn a_bar_that_is_seen_is_drawn_while_nothing_comes() {
    let gate = Event::new().unwrap();
    let inherited = gate.clone();
    let keep = move || {
        GATE.replace(Some(inherited.clone()));
        Ok::<(), String>(())
    };
    let pool = Pool::builder().workers(1).initializer(keep).build().unwrap();
    let gated = |n: u64| {
        GATE.with_borrow(|gate| gate.as_ref().unwrap().wait());
        n
    };
    let (sender, drawn) = mpsc::channel();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(Screen(sender)), 200);
    let bar = ProgressBar::with_draw_target(Some(1), target);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            (0..3).for_each(|_| drawn.recv().unwrap());
            gate.set();
        });
        let values: Vec<_> = pool.imap(gated, [5]).progress(bar).collect();
        assert_eq!(values, [Ok(5)]);
    });
}

fn no_thread_is_started_for_a_bar() {
    let pool = pool();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let target = ProgressDrawTarget::term_like(Box::new(Screen(mpsc::channel().0)));
    let mut values = pool.imap(square, 20..40).progress(ProgressBar::with_draw_target(None, target));
    while values.next().is_some() {
        assert_eq!(threads(), before);
    }
}

fn a_map_says_how_many_values_there_can_be() {
    let pool = pool();
    let mut values = pool.imap(square, 20..40);
    while let Some(most) = Some(values.size_hint().1.unwrap()) {
        let Some(_) = values.next() else { break };
        let (least, left) = values.size_hint();
        assert!(least <= left.unwrap() && left.unwrap() < most);
    }
    assert_eq!(values.size_hint(), (0, Some(0)));
    assert_eq!(pool.imap(square, std::iter::repeat(1)).size_hint().1, None);
}
