//! In the place of [`boost`](../boost.rs) where Boost.Interprocess is not installed.

use crate::{drive::Contest, rounds::Row};

const WHY: &str = "not installed";

pub fn message_queue<const W: usize, const CAP: usize>(row: Row) -> Row {
    row.without("Boost message_queue", WHY)
}

pub fn uncontended(row: Row) -> Row {
    row.without("Boost interprocess_mutex", WHY)
}

pub fn contended(row: Row, _: Contest) -> Row {
    row.without("Boost interprocess_mutex", WHY)
}
