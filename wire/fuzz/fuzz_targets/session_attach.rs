#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chariot_fuzz::run("session_attach", bytes));
