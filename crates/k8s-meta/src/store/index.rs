//! From a key to the slots of the records that have it. Keys are not stored again: the index has 32 bits of their
//! hash, and whoever asks compares the records.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: u32,
    slot: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: HashTable<Entry>,
    state: RandomState,
}

impl Index {
    /// The slots that may have this key; a few others may be among them.
    pub(crate) fn candidates<'a, K: Hash>(
        &'a self,
        key: &K,
    ) -> impl Iterator<Item = u32> + use<'a, K> {
        let hash = self.hash(key);
        self.entries
            .iter_hash(spread(hash))
            .filter(move |entry| entry.hash == hash)
            .map(|entry| entry.slot)
    }

    /// The same key may have many slots, each of them once.
    pub(crate) fn insert(&mut self, key: &impl Hash, slot: u32) {
        let entry = Entry {
            hash: self.hash(key),
            slot,
        };
        let place = spread(entry.hash);
        if self.entries.find(place, |known| *known == entry).is_none() {
            self.entries
                .insert_unique(place, entry, |known| spread(known.hash));
        }
    }

    pub(crate) fn remove(&mut self, key: &impl Hash, slot: u32) {
        let entry = Entry {
            hash: self.hash(key),
            slot,
        };
        if let Ok(found) = self
            .entries
            .find_entry(spread(entry.hash), |known| *known == entry)
        {
            found.remove();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn hash(&self, key: &impl Hash) -> u32 {
        let hash = self.state.hash_one(key);
        // Either half will do.
        u32::try_from(hash >> 32).unwrap_or(0)
    }
}

/// The table wants its entropy in the highest and the lowest bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_all_slots_that_were_inserted_and_none_that_were_removed() {
        let mut index = Index::default();
        for slot in 0..10_000_u32 {
            index.insert(&(slot / 2), slot);
        }
        index.insert(&7, 15);
        assert_eq!(index.len(), 10_000);
        let mut found: Vec<_> = index.candidates(&7).filter(|slot| slot / 2 == 7).collect();
        found.sort_unstable();
        assert_eq!(found, [14, 15]);
        index.remove(&7, 14);
        index.remove(&7, 14);
        assert_eq!(
            index
                .candidates(&7)
                .filter(|slot| slot / 2 == 7)
                .collect::<Vec<_>>(),
            [15]
        );
        assert_eq!(index.len(), 9_999);
    }
}
