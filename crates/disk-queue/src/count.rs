//! How much of each signal.

/// A number of records with what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Records.
    pub records: u64,
    /// Items in them, as told by who pushed them.
    pub items: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Count {
    /// One record.
    pub(crate) fn one(items: u32, bytes: usize) -> Self {
        Self {
            records: 1,
            items: u64::from(items),
            bytes: bytes as u64,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.items = self.items.saturating_add(other.items);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn take(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.items = self.items.saturating_sub(other.items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// A count for each signal that occurs; there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(u8, Count)>);

impl Counts {
    pub(crate) fn add(&mut self, signal: u8, count: Count) {
        match self.0.binary_search_by_key(&signal, |entry| entry.0) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1.add(count);
                }
            }
            Err(at) => self.0.insert(at, (signal, count)),
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (signal, count) in other.iter() {
            self.add(signal, count);
        }
    }

    pub(crate) fn take(&mut self, signal: u8, count: Count) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.0 == signal) {
            entry.1.take(count);
        }
    }

    /// Of one signal.
    pub fn of(&self, signal: u8) -> Count {
        self.iter()
            .find(|entry| entry.0 == signal)
            .map_or_else(Count::default, |entry| entry.1)
    }

    /// Of all signals.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        for (_, count) in self.iter() {
            total.add(count);
        }
        total
    }

    /// The signals and what there is of them.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Count)> + '_ {
        self.0.iter().copied()
    }
}
