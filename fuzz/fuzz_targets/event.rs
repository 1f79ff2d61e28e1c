#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| force_mfa_fuzz::event(bytes));
