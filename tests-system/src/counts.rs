//! How often a test repeats itself.

/// True when `SYSTEM_TESTS_FULL=1` asks for the full counts (`cargo xtask soak`).
pub fn full() -> bool {
    std::env::var_os("SYSTEM_TESTS_FULL").is_some_and(|value| value == "1")
}

/// Picks the number of repetitions and prints it, so that a log tells how much was tested.
pub fn repetitions(what: &str, full_count: usize, reduced: usize) -> usize {
    if full() {
        println!("REPORT {what}: {full_count} times");
        full_count
    } else {
        println!("REPORT {what}: {reduced} times (reduced; {full_count} with SYSTEM_TESTS_FULL=1)");
        reduced
    }
}
