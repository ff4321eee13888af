//! [`Progress`]: a lazy map that moves a bar.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::pool::{Carried, Mapped, TaskError};

/// How often a bar that can be seen is drawn while nothing comes home.
const TICK: Duration = Duration::from_millis(100);

/// A lazy map that moves a bar of indicatif's: made by [`Mapped::progress`].
///
/// The bar moves by one for each value, an error included. It is finished as its style says when there are no more, and
/// abandoned where it stands when this is dropped before. No thread draws it: whoever waits for the next value does,
/// ten times in a second if the bar can be seen.
#[derive(Debug)]
pub struct Progress<'p, A, R, I> {
    values: Mapped<'p, A, R, I>,
    bar: ProgressBar,
}

impl<'p, A: Carried, R: Carried, I: Iterator<Item = A>> Mapped<'p, A, R, I> {
    /// Moves `bar` as values come home. A bar without a length is given one, if the input says how many items it has.
    ///
    /// Collected, it is [`map_each`](crate::Pool::map_each) with a bar.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use indicatif::ProgressBar;
    /// use pshared::Pool;
    ///
    /// let pool = Pool::new()?;
    /// let bar = ProgressBar::no_length();
    /// let squares: Result<Vec<u64>, _> = pool.imap(|n: u64| n * n, 0..5).progress(bar.clone()).collect();
    /// assert_eq!(squares?, [0, 1, 4, 9, 16]);
    /// assert_eq!((bar.position(), bar.length()), (5, Some(5)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    /// Python's `tqdm(pool.imap(...), total=n)`.
    #[doc(alias = "tqdm")]
    pub fn progress(self, bar: ProgressBar) -> Progress<'p, A, R, I> {
        if bar.length().is_none()
            && let Some(items) = self.expected()
        {
            bar.set_length(items as u64);
        }
        Progress { values: self, bar }
    }
}

impl<A: Carried, R: Carried, I: Iterator<Item = A>> Iterator for Progress<'_, A, R, I> {
    type Item = Result<R, TaskError>;

    /// Waits for the next value, as long as it takes.
    fn next(&mut self) -> Option<Result<R, TaskError>> {
        let value = loop {
            if self.bar.is_hidden() {
                break self.values.next();
            }
            match self.values.next_timeout(TICK) {
                Some(None) => self.bar.tick(),
                come => break come.flatten(),
            }
        };
        match value {
            Some(_) => self.bar.inc(1),
            None if self.bar.is_finished() => {}
            None => self.bar.finish_using_style(),
        }
        value
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.values.size_hint()
    }
}

impl<A, R, I> Drop for Progress<'_, A, R, I> {
    fn drop(&mut self) {
        if !self.bar.is_finished() {
            self.bar.abandon();
        }
    }
}
