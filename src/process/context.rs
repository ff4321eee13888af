//! [`Context`]: by which method children are started.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    process::{Builder, Function, Process, reexec, server::Server},
};

/// A start method, chosen where children are started and nowhere else: there is no global setting.
///
/// | method          | the child begins as                     | other threads here | cost               |
/// |-----------------|-----------------------------------------|--------------------|--------------------|
/// | [`fork`]        | a copy of this process                  | refused            | grows with memory  |
/// | [`spawn`]       | the program, from its beginning         | allowed            | an exec            |
/// | [`fork_server`] | a copy of a small process kept for that | allowed            | little, always     |
///
/// Under all three the child runs a [`Function`] with an argument, is a child of this process, and is known by the same
/// [`Process`]: how it ended, what it used, and what becomes of it when this process ends. Shared objects in the
/// argument are the same objects there. By the latter two the argument goes by serde, and `main` must call
/// [`init`](crate::init) first.
///
/// [`fork`]: Context::fork
/// [`spawn`]: Context::spawn
/// [`fork_server`]: Context::fork_server
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Atomic, Context, functions};
///
/// functions! {
///     static ADD: fn((Atomic<u32>, u32)) -> u32 = |(total, more)| total.fetch_add(more);
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     pshared::init();
///     let total = Atomic::new(0)?;
///     for context in [Context::fork(), Context::spawn(), Context::fork_server()?] {
///         context.start(&ADD, (total.clone(), 5))?.join()?;
///     }
///     assert_eq!(total.get(), 15);
///     Ok(())
/// }
/// ```
///
/// # References
/// Python `multiprocessing.get_context(method)`; there is no `set_start_method`.
#[derive(Clone, Debug)]
#[doc(alias = "get_context")]
pub struct Context(Method);

#[derive(Clone, Debug)]
enum Method {
    Fork,
    Spawn,
    ForkServer(Server),
}

impl Context {
    /// Children are forked: copies of this process. See [`Process::spawn`], which takes closures too.
    pub fn fork() -> Context {
        Context(Method::Fork)
    }

    /// Children run this program from its beginning as far as [`init`](crate::init), with the arguments of this
    /// process, its environment and its working directory.
    #[doc(alias = "exec")]
    pub fn spawn() -> Context {
        Context(Method::Spawn)
    }

    /// Children are forked by a process that is started now, as by [`spawn`](Context::spawn), and kept for that.
    ///
    /// A child begins with what the server has: the environment and the standard outputs of this process as they are
    /// now. It is a child of *this* process all the same. The server serves the clones of this context and ends with
    /// the last of them, or with this process. It ignores SIGINT. When it is killed, its children do not care, and the
    /// next start begins another; while it is stopped (SIGSTOP), starts wait for it. Handlers that libraries set by
    /// pthread_atfork(3) do not run in the children. Needs glibc.
    ///
    /// # Errors
    /// As for [`start`](Context::start); [`SpawnError::Server`].
    ///
    /// # References
    /// Python's start method "forkserver".
    #[doc(alias = "forkserver")]
    pub fn fork_server() -> Result<Context, SpawnError> {
        Ok(Context(Method::ForkServer(Server::start(None)?)))
    }

    /// The same, and each server runs `preload` before it serves: what that puts into statics, all its children have.
    /// It must leave no thread behind.
    ///
    /// # Errors
    /// As for [`fork_server`](Context::fork_server).
    ///
    /// # References
    /// Python `set_forkserver_preload`.
    #[doc(alias = "set_forkserver_preload")]
    pub fn fork_server_with(preload: &'static Function<(), ()>) -> Result<Context, SpawnError> {
        Ok(Context(Method::ForkServer(Server::start(Some(preload))?)))
    }

    /// Whether children are copies of this process.
    pub(crate) fn is_fork(&self) -> bool {
        matches!(self.0, Method::Fork)
    }

    /// Starts a child that runs `function` with `argument`.
    ///
    /// By [`spawn`](Context::spawn), waits until the child has come to [`init`](crate::init).
    ///
    /// # Errors
    /// - [`SpawnError::MultiThreaded`]: by fork, in a process with other threads.
    /// - [`SpawnError::NotInitialized`], [`SpawnError::NeverBegan`]: by another method, in a program whose `main` does
    ///   not call [`init`](crate::init) first.
    /// - [`SpawnError::Argument`]: it could not be encoded, or not be sent.
    /// - [`SpawnError::Function`]: it is not registered by [`functions!`](crate::functions).
    /// - [`SpawnError::NotParent`], [`SpawnError::Server`]: the fork server is another process's, or does not come up.
    /// - [`SpawnError::Memory`], [`SpawnError::Os`].
    ///
    /// In all cases nothing of the function has run, and nothing is left behind.
    pub fn start<A, T>(
        &self,
        function: &'static Function<A, T>,
        argument: A,
    ) -> Result<Process<T>, SpawnError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        self.start_with(Builder::default(), function, argument)
    }

    /// The same, as `builder` says.
    ///
    /// # Errors
    /// [`SpawnError::Setting`]: the child could not be made so; else as for [`start`](Context::start).
    pub fn start_with<A, T>(
        &self,
        builder: Builder,
        function: &'static Function<A, T>,
        argument: A,
    ) -> Result<Process<T>, SpawnError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        match &self.0 {
            Method::Fork => {
                let function = function.function();
                builder.spawn(move || function(argument))
            }
            Method::Spawn => reexec::start(builder, function, &argument, false),
            Method::ForkServer(server) => server.serve(builder, function, &argument),
        }
    }
}
