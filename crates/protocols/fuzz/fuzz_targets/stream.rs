//! `make fuzz`: any bytes as the two directions of a connection. The same body runs in tests/properties.rs.
#![no_main]

#[path = "../../tests/script/mod.rs"]
mod script;
#[path = "../../tests/script/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stream::drive(data));
