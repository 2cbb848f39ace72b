//! A panic of any thread or task: without it the agent would live on and do only a part of its work, or none.

use std::panic;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

static INSTALLED: Once = Once::new();
static RAISED: Mutex<Option<String>> = Mutex::new(None);

/// From now on the first panic in this process is remembered; one before that is forgotten.
pub fn arm() {
    *RAISED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    INSTALLED.call_once(|| {
        let say = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let thread = thread::current();
            let name = thread.name().unwrap_or("without a name").to_owned();
            RAISED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(name);
            say(panicked);
        }));
    });
}

/// The name of the thread that panicked first, if one has.
pub fn raised() -> Option<String> {
    RAISED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}
