//! Models of the queue: every order of a few threads, and every death of one of them.

mod channel;
mod doorbell;
mod ends;
mod tasks;
