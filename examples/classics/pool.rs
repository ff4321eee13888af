//! Four workers: a map in order, one as it comes, tasks for later, one that is too slow; and the end of a scope.

use std::{collections::BTreeSet, num::NonZeroUsize, process, thread, time::Duration};

use pshared::{GetTimeoutError, Pool, active_children};

use super::Outcome;

fn square(n: u64) -> u64 {
    n * n
}

pub(crate) fn run() -> Outcome {
    {
        let pool = Pool::builder().workers(4).build()?;
        println!("{:?}", pool.map(square, 0..10)?);

        let mut squares = pool.imap_unordered(square, 0..10).collect::<Result<Vec<u64>, _>>()?;
        squares.sort();
        println!("in any order, sorted here: {squares:?}");

        let later = pool.apply_async(square, 20)?;
        println!("{}", later.get_timeout(Duration::from_secs(60))?);

        let who = |()| {
            thread::sleep(Duration::from_millis(5));
            process::id()
        };
        let pids = pool.map_chunked(who, [(); 40], NonZeroUsize::MIN)?;
        let pids: BTreeSet<u32> = pids.into_iter().collect();
        println!(
            "at most four workers: {}, none of them us: {}",
            pids.len() <= 4,
            !pids.contains(&process::id())
        );

        let slow = pool.apply_async(|()| thread::sleep(Duration::from_millis(300)), ())?;
        match slow.get_timeout(Duration::from_millis(1)) {
            Err(GetTimeoutError::TimedOut(_)) => println!("we lacked patience, and got no value"),
            other => println!("{other:?}"),
        }
        println!("for the moment, the pool remains available: {}", pool.apply(square, 12)?);
    }
    println!("now the pool is gone: {}", active_children().is_empty());
    Ok(())
}
