//! [`TaskLimits`]: how long a task may take.

use std::time::Duration;

/// How long a task may take.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let limits = pshared::TaskLimits::new().hard(Duration::from_secs(60)).soft(Duration::from_secs(50));
/// assert_ne!(limits, pshared::TaskLimits::new());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    pub(super) hard: Option<Duration>,
    pub(super) soft: Option<Duration>,
    pub(super) deadline: Option<Duration>,
}

impl TaskLimits {
    /// No limits.
    pub fn new() -> TaskLimits {
        TaskLimits::default()
    }

    /// Its worker is killed when it has taken so long since a worker began it.
    pub fn hard(self, limit: Duration) -> TaskLimits {
        TaskLimits { hard: Some(limit), ..self }
    }

    /// Its worker is sent a signal when it has taken so long since a worker began it:
    /// [`PoolBuilder::warning`](crate::PoolBuilder::warning).
    pub fn soft(self, limit: Duration) -> TaskLimits {
        TaskLimits { soft: Some(limit), ..self }
    }

    /// It is given up when it is not done so long after it was given to the pool, begun or not.
    pub fn deadline(self, limit: Duration) -> TaskLimits {
        TaskLimits { deadline: Some(limit), ..self }
    }

    /// Whether there are any.
    #[inline]
    pub(super) fn any(self) -> bool {
        self.hard.is_some() || self.soft.is_some() || self.deadline.is_some()
    }
}
