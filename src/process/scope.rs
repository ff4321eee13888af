//! [`scope`]: children that are all joined at its end.

use std::{error::Error, fmt, mem, sync::Mutex, sync::PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    process::{Builder, Child, Context, Function, JoinError, Process, handle},
};

/// Where children are started that are joined before it ends. See [`scope`].
///
/// Those that are forked by it may borrow, as all that are forked may; the others are sent what they need.
#[derive(Debug)]
pub struct Scope {
    started: Mutex<Vec<Child>>,
}

/// A child of a scope had no value, and nobody had asked for it.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScopeError {
    /// The name of the first child that failed, in the order of their starts.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Why it has no value, and how it ended.
    pub error: JoinError,
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) failed: {}", self.name, self.pid, self.error)
    }
}

impl Error for ScopeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Runs `body`, and joins every child that was started by the scope it is given.
///
/// Blocks until the last of them has ended, if `body` panics too; the panic goes on afterwards. The handles are like
/// any others: one that is joined in `body` tells its caller about its failure, and the scope does not. One that is
/// dropped is joined by the scope. A child that is to end with `body` must be told, by [`Child::terminate`] for
/// example.
///
/// # Errors
/// [`ScopeError`]: the first child that failed, unless `body` asked for its value. What `body` returned is dropped.
///
/// # Examples
/// ```standalone_crate
/// use pshared::Process;
///
/// let numbers = [1, 2, 3, 4];
/// let total = pshared::scope(|s| {
///     let halves: Vec<_> = numbers.chunks(2).map(|half| s.spawn(|| half.iter().sum::<u32>()).unwrap()).collect();
///     halves.into_iter().map(|half| half.join().unwrap()).sum::<u32>()
/// })?;
/// assert_eq!(total, 10);
///
/// let failed = pshared::scope(|s| drop::<Process>(s.spawn(|| panic!("no luck")).unwrap())).unwrap_err();
/// assert!(failed.to_string().ends_with("no luck"), "{failed}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// `std::thread::scope`; Python joins children that are no daemons when the program ends.
pub fn scope<R>(body: impl FnOnce(&Scope) -> R) -> Result<R, ScopeError> {
    // Joins them when `body` panics.
    struct Joined(Scope);
    impl Drop for Joined {
        fn drop(&mut self) {
            let _ = self.0.join();
        }
    }
    let scope = Joined(Scope { started: Mutex::default() });
    let result = body(&scope.0);
    scope.0.join()?;
    Ok(result)
}

impl Scope {
    /// Starts a child, as [`Process::spawn`] does.
    ///
    /// # Errors
    /// As for [`Process::spawn`].
    pub fn spawn<T, F>(&self, closure: F) -> Result<Process<T>, SpawnError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        self.spawn_with(Builder::default(), closure)
    }

    /// Starts a child, as [`Builder::spawn`] does.
    ///
    /// # Errors
    /// As for [`Builder::spawn`].
    pub fn spawn_with<T, F>(&self, builder: Builder, closure: F) -> Result<Process<T>, SpawnError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        builder.spawn(closure).map(|process| self.with(process))
    }

    /// Starts a child, as [`Context::start`] does, by whatever method, and whatever other threads there are. Its
    /// argument is sent and not borrowed: a child that is no copy of this process has nothing of it to borrow.
    ///
    /// # Errors
    /// As for [`Context::start`].
    pub fn start<A, T>(
        &self,
        context: &Context,
        function: &'static Function<A, T>,
        argument: A,
    ) -> Result<Process<T>, SpawnError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        self.start_with(context, Builder::default(), function, argument)
    }

    /// Starts a child, as [`Context::start_with`] does.
    ///
    /// # Errors
    /// As for [`Context::start_with`].
    pub fn start_with<A, T>(
        &self,
        context: &Context,
        builder: Builder,
        function: &'static Function<A, T>,
        argument: A,
    ) -> Result<Process<T>, SpawnError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        context.start_with(builder, function, argument).map(|process| self.with(process))
    }

    fn with<T>(&self, process: Process<T>) -> Process<T> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(process.child().clone());
        process
    }

    /// Waits for all, and then says who failed first.
    fn join(&self) -> Result<(), ScopeError> {
        let started = mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = None;
        for child in started {
            let ended = child.wait().map_err(JoinError::from_wait);
            if child.is_claimed() {
                continue;
            }
            let value = ended.and_then(|status| handle::body(&child, status));
            if let (Err(error), None) = (value, &failed) {
                failed = Some(ScopeError { name: child.name().to_owned(), pid: child.pid(), error });
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
