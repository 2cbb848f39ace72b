//! A bounded table that forgets what was used least recently.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Entries with the time of their last use, which is a count.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: HashMap<K, (u64, V), RandomState>,
    most: usize,
    uses: u64,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// An empty table of at most so many entries.
    pub fn new(most: usize) -> Self {
        Self {
            entries: HashMap::default(),
            most: most.max(1),
            uses: 0,
        }
    }

    /// The entry of a key, which is used now.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        self.uses += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(value)
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: K, value: V) {
        self.make_room(&key);
        self.entries.insert(key, (self.uses, value));
    }

    /// The entry of a key, which is made where there is none, and used now.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.make_room(&key);
        let (used, value) = self.entries.entry(key).or_default();
        *used = self.uses;
        value
    }

    /// Forgets an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// All entries, which are not used by that.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries
            .iter_mut()
            .map(|(key, (_, value))| (key, value))
    }

    fn make_room(&mut self, key: &K) {
        if self.entries.len() >= self.most && !self.entries.contains_key(key) {
            self.evict();
        }
        self.uses += 1;
    }

    /// Evicts an eighth at once, so that the search for the least recently used is paid rarely.
    fn evict(&mut self) {
        let mut uses: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
        let eighth = uses.len() / 8;
        let (_, limit, _) = uses.select_nth_unstable(eighth);
        let limit = *limit;
        self.entries.retain(|_, (used, _)| *used > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_what_was_used_least_recently() {
        let mut table = Recent::new(16);
        for key in 0..16 {
            table.insert(key, key);
        }
        assert_eq!(table.get(&0), Some(&mut 0));
        table.insert(16, 16);
        assert_eq!(table.get(&0), Some(&mut 0), "it was used");
        assert_eq!(table.get(&1), None, "the oldest");
        assert_eq!(table.get(&16), Some(&mut 16), "the newest");
        for key in 17..10_000 {
            table.insert(key, key);
            assert_eq!(table.get(&0), Some(&mut 0));
            assert!(table.iter_mut().count() <= 16);
        }
    }

    #[test]
    fn a_table_of_one_entry_takes_the_newest() {
        let mut table = Recent::new(1);
        for key in 0..3 {
            table.insert(key, ());
            assert_eq!(
                table.iter_mut().map(|(key, ())| *key).collect::<Vec<_>>(),
                [key]
            );
        }
    }
}
