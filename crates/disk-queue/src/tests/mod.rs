//! Tests with a disk that fails and a clock that jumps.
