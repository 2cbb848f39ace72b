//! Runs a test once on each backend that is to be tested on this kernel.

#[path = "../../crates/probes/tests/observed/backends.rs"]
mod choice;

use std::time::Duration;

pub(crate) use choice::patience;

use super::machine::{is_root, note, skip};

/// Whether a test can run on this backend; skips it otherwise.
pub(crate) fn takes(test: &str, backend: &str) -> bool {
    if !is_root(test) {
        return false;
    }
    let reason = choice::reason_against(backend);
    if let Some(reason) = reason {
        // The same line for every test: the summary holds it once.
        skip(&format!("tests of the agent on backend {backend}"), reason);
    }
    reason.is_none()
}

/// Whether times can be held against each other here: not where the processor is emulated and programs stand still
/// between a system call and their own look at the clock. Notes what is left out.
pub(crate) fn times_are_compared(what: &str) -> bool {
    let compared = patience(Duration::from_secs(1)) == Duration::from_secs(1);
    if !compared {
        note(&format!("not compared: {what}"), "the processor is slow");
    }
    compared
}

/// How many requests make a load here: `SPANDREL_TEST_LOAD` percent of `count`, which an emulated processor needs minutes
/// for. Notes what was asked of it instead.
pub(crate) fn load(what: &str, count: usize) -> usize {
    let Ok(text) = std::env::var("SPANDREL_TEST_LOAD") else {
        return count;
    };
    let percent: usize = text.parse().expect("SPANDREL_TEST_LOAD is a percentage");
    let less = (count * percent / 100).max(1);
    note(
        &format!("{less} instead of {count}: {what}"),
        "the processor is slow",
    );
    less
}

/// Turns `fn name(backend) { ... }` into one test for each backend, for example `name::on_backend_fexit`.
macro_rules! on_each_backend {
    ($($(#[$meta:meta])* fn $name:ident($backend:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            $(#[$meta])*
            fn check($backend: &str) {
                let test = stringify!($name);
                if $crate::support::backends::takes(test, $backend)
                    && $crate::support::machine::has(test, &["nginx", "python3"])
                {
                    $body
                }
            }

            #[test]
            fn on_backend_socket() {
                check("socket");
            }

            #[test]
            fn on_backend_fexit() {
                check("fexit");
            }

            #[test]
            fn on_backend_syscall() {
                check("syscall");
            }
        })*
    };
}
pub(crate) use on_each_backend;
