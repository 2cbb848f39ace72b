//! One copy of each value that many pods share.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// A value lives as long as somebody outside holds it, and until the next [`Interner::sweep`].
#[derive(Debug)]
pub(crate) struct Interner<T: ?Sized + Eq + Hash> {
    values: HashSet<Arc<T>, RandomState>,
    /// Sweeping at once after each change would cost more than it frees.
    sweep_at: usize,
}

const SMALLEST_SWEEP: usize = 256;

impl<T: ?Sized + Eq + Hash> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: HashSet::default(),
            sweep_at: SMALLEST_SWEEP,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The shared copy of a value.
    pub(crate) fn intern<'a>(&mut self, value: &'a T) -> Arc<T>
    where
        Arc<T>: From<&'a T>,
    {
        if let Some(known) = self.values.get(value) {
            return Arc::clone(known);
        }
        self.keep(Arc::from(value))
    }

    /// The shared copy of a value that has been made already.
    pub(crate) fn intern_made(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(known) = self.values.get(&*value) {
            return Arc::clone(known);
        }
        self.keep(value)
    }

    fn keep(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at {
            self.sweep();
        }
        self.values.insert(Arc::clone(&value));
        value
    }

    /// Lets go of what nobody else holds.
    pub(crate) fn sweep(&mut self) {
        self.values.retain(|value| Arc::strong_count(value) > 1);
        let live = self.values.len();
        self.sweep_at = (live * 2).max(SMALLEST_SWEEP);
        if self.values.capacity() > self.sweep_at * 2 {
            self.values.shrink_to(self.sweep_at);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut names = Interner::<str>::default();
        let held = names.intern("shop");
        assert!(Arc::ptr_eq(&held, &names.intern("shop")));
        for number in 0..10_000 {
            names.intern(&number.to_string());
        }
        assert!(names.len() <= SMALLEST_SWEEP, "{}", names.len());
        assert!(Arc::ptr_eq(&held, &names.intern("shop")));
        names.sweep();
        assert_eq!(names.len(), 1);
    }
}
