//! Operation lists against a lock for few readers, in one thread, and against plain counts.

use std::time::Duration;

use arbitrary::Arbitrary;
use pshared::{RwLock, RwLockError, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};

#[derive(Arbitrary, Debug)]
enum Op {
    Read,
    ReadTimeout,
    Write,
    WriteTimeout,
    Upgradable,
    Upgrade,
    Downgrade,
    EndRead(u8),
    EndWrite,
    EndUpgradable,
}

const READERS: usize = 3;

pub fn run(data: &[u8]) {
    let Some(ops) = super::case::<Vec<Op>>(data) else { return };
    let lock = RwLock::with_readers(READERS).unwrap();
    let mut readers: Vec<RwLockReadGuard<'_>> = Vec::new();
    let mut writer: Option<RwLockWriteGuard<'_>> = None;
    let mut upgradable: Option<RwLockUpgradableGuard<'_>> = None;
    for op in ops {
        let is_free = writer.is_none() && upgradable.is_none();
        match op {
            Op::Read | Op::ReadTimeout => {
                let got = match op {
                    Op::Read => lock.try_read(),
                    _ => lock.read_timeout(Duration::ZERO),
                };
                match got {
                    Ok(guard) => {
                        assert!(writer.is_none() && readers.len() < READERS);
                        readers.push(guard);
                    }
                    Err(RwLockError::TooManyReaders { limit }) => {
                        assert!(limit == READERS && readers.len() == READERS);
                    }
                    Err(error) => {
                        let said = matches!(error, RwLockError::WouldBlock | RwLockError::AlreadyHeld);
                        assert!(said && writer.is_some(), "{error:?}");
                    }
                }
            }
            Op::Write | Op::WriteTimeout => {
                let got = match op {
                    Op::Write => lock.try_write(),
                    _ => lock.write_timeout(Duration::ZERO),
                };
                match got {
                    Ok(guard) => {
                        assert!(is_free && readers.is_empty());
                        writer = Some(guard);
                    }
                    Err(RwLockError::WouldBlock | RwLockError::AlreadyHeld) => {
                        assert!(!is_free || !readers.is_empty());
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            Op::Upgradable => match lock.try_upgradable_read() {
                Ok(guard) => {
                    assert!(is_free);
                    upgradable = Some(guard);
                }
                Err(RwLockError::WouldBlock | RwLockError::AlreadyHeld) => assert!(!is_free),
                Err(error) => panic!("{error:?}"),
            },
            Op::Upgrade => {
                if let Some(guard) = &mut upgradable {
                    match guard.try_upgrade() {
                        Ok(writing) => {
                            assert!(readers.is_empty() && lock.try_read().is_err());
                            drop(writing);
                        }
                        Err(RwLockError::WouldBlock | RwLockError::AlreadyHeld) => {
                            assert!(!readers.is_empty());
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
            Op::Downgrade => readers.extend(writer.take().map(RwLockWriteGuard::downgrade)),
            Op::EndRead(nth) if !readers.is_empty() => {
                drop(readers.swap_remove(usize::from(nth) % readers.len()));
            }
            Op::EndRead(_) => {}
            Op::EndWrite => writer = None,
            Op::EndUpgradable => upgradable = None,
        }
    }
    drop((readers, writer, upgradable));
    assert!(lock.try_write().is_ok());
}
