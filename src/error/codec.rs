//! [`CodecError`]: between values and bytes.

use std::{error::Error, fmt};

/// A value could not be turned into bytes, or bytes into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Postcard(postcard::Error),
    Length { need: usize, have: usize },
}

impl CodecError {
    pub(crate) fn postcard(error: postcard::Error) -> CodecError {
        CodecError(Cause::Postcard(error))
    }

    /// The message has another length than its type.
    pub(crate) fn length(need: usize, have: usize) -> CodecError {
        CodecError(Cause::Length { need, have })
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Postcard(error) => write!(f, "serialisation failed: {error}"),
            Cause::Length { need, have } => {
                write!(f, "message of another type: need {need} bytes, have {have}")
            }
        }
    }
}

impl Error for CodecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Cause::Postcard(error) => Some(error),
            Cause::Length { .. } => None,
        }
    }
}
