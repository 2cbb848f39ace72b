//! `make fuzz`: any bytes as events. The same body runs in tests/properties.rs.
#![no_main]

#[path = "../../tests/script/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drive::drive(data));
