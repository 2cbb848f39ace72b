//! A small cache in front of the index of series.

/// Pairs of resource and set of attributes whose entry is known without a look at the attributes.
#[derive(Debug, Default)]
pub(super) struct Recent(Vec<(u64, u64, usize)>);

impl Recent {
    const PLACES: usize = 1024;

    #[inline]
    fn place(resource: u64, set: u64) -> usize {
        // Both are numbers in the order of their making: neighbours stay apart by themselves.
        (resource.wrapping_mul(37) ^ set) as usize % Self::PLACES
    }

    #[inline]
    pub(super) fn get(&self, resource: u64, set: u64) -> Option<usize> {
        let (of, with, entry) = self.0.get(Self::place(resource, set))?;
        (*of == resource && *with == set).then_some(*entry)
    }

    pub(super) fn put(&mut self, resource: u64, set: u64, entry: usize) {
        // No resource and no set has the number 0.
        self.0.resize(Self::PLACES, (0, 0, 0));
        if let Some(place) = self.0.get_mut(Self::place(resource, set)) {
            *place = (resource, set, entry);
        }
    }
}
