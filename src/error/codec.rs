//! [`CodecError`]: between values and bytes.

use std::{error::Error, fmt};

use crate::error::HandleError;

/// A value could not be turned into bytes, or bytes into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Postcard(postcard::Error),
    Length { need: usize, have: usize },
    Handle(HandleError),
}

impl CodecError {
    pub(crate) fn postcard(error: postcard::Error) -> CodecError {
        CodecError(Cause::Postcard(error))
    }

    /// A handle in the value, or among the bytes, was refused.
    pub(crate) fn handle(error: HandleError) -> CodecError {
        CodecError(Cause::Handle(error))
    }

    /// What was said of a handle in the value, if that was the matter.
    pub fn handle_error(&self) -> Option<&HandleError> {
        match &self.0 {
            Cause::Handle(error) => Some(error),
            Cause::Postcard(_) | Cause::Length { .. } => None,
        }
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
            Cause::Handle(error) => error.fmt(f),
        }
    }
}

impl Error for CodecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Cause::Postcard(error) => Some(error),
            Cause::Handle(error) => Some(error),
            Cause::Length { .. } => None,
        }
    }
}
