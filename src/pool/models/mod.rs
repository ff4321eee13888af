//! Models of the board.
