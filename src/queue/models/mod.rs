//! Models of the queue: every order of a few threads, and every death of one of them.

mod any;
mod channel;
mod doorbell;
mod ends;
mod peers;
mod tasks;
