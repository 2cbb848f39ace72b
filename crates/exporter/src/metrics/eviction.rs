//! Which series end, and when: those of resources that are gone, and the longest idle ones where there is no room.

use std::sync::Arc;

use spandrel_model::UnixTime;

use super::aggregator::{APART, Aggregator, count_of};
use super::recent::Recent;
use super::series::Entry;
use super::{MetricsBatch, Temporality};

/// Room is made for so many at once, as a share of all, so that the search for the longest idle ones is paid rarely.
const SHARE: usize = 8;

impl Aggregator {
    /// The last points of series that ended within the window for want of room. They are to be exported at once.
    pub fn take_last_points(&mut self) -> Vec<MetricsBatch> {
        std::mem::take(&mut self.last_points)
    }

    /// Ends the window: forgets what will not be told again and starts the others anew.
    pub(super) fn end_window(&mut self) {
        let delta = self.settings.temporality == Temporality::Delta;
        let mut ended = 0_usize;
        for entry in &mut self.entries {
            entry.held = None;
            let Some(state) = self.resources.get_mut(&entry.resource_id) else {
                continue;
            };
            let gone = state.resource.strong_count() == 0;
            entry.series.retain_mut(|series| {
                let keep = series.touched || !(delta || gone);
                if keep && delta {
                    series.reset(&self.settings.histogram);
                }
                series.touched = false;
                if !keep {
                    ended += 1;
                    if let Some(count) = count_of(&mut state.counts, series.instrument) {
                        *count = count.saturating_sub(1);
                    }
                }
                keep
            });
        }
        self.stats.ended += ended as u64;
        if ended > 0 {
            self.forget(ended);
        }
    }

    /// Ends the series of resources that are gone and then the longest idle ones. What was measured of them since the last
    /// collection is told now, so nothing is lost; one that comes back begins anew, after its last point.
    pub(super) fn make_room(&mut self) {
        let wanted = (self.settings.max_series / SHARE).max(1);
        let mut order: Vec<(bool, u64, usize)> = self
            .entries
            .iter()
            .enumerate()
            .map(|(place, entry)| (self.is_alive(entry), entry.used, place))
            .collect();
        order.sort_unstable();
        let mut ends = vec![false; self.entries.len()];
        let (mut ended, mut evicted) = (0, 0);
        for (is_alive, _, place) in order {
            if ended >= wanted {
                break;
            }
            let (Some(entry), Some(end)) = (self.entries.get(place), ends.get_mut(place)) else {
                continue;
            };
            *end = true;
            ended += entry.series.len();
            evicted += if is_alive { entry.series.len() } else { 0 };
        }
        self.tell_last_points(&ends);
        for (entry, _) in self
            .entries
            .iter_mut()
            .zip(&ends)
            .filter(|(_, ends)| **ends)
        {
            let state = self.resources.get_mut(&entry.resource_id);
            let mut counts = state.map(|state| &mut state.counts);
            for series in entry.series.drain(..) {
                if let Some(count) = counts
                    .as_deref_mut()
                    .and_then(|counts| count_of(counts, series.instrument))
                {
                    *count = count.saturating_sub(1);
                }
            }
        }
        self.stats.evicted += evicted as u64;
        self.stats.ended += (ended - evicted) as u64;
        self.forget(ended);
    }

    fn tell_last_points(&mut self, ends: &[bool]) {
        let start = self.start_of_window(self.latest);
        let before = self.told_until.unwrap_or(start);
        let until = self.latest.max(UnixTime(before.0.saturating_add(APART)));
        let points = self.points((start, until), |place, series| {
            series.touched && ends.get(place).is_some_and(|ends| *ends)
        });
        if !points.is_empty() {
            self.told_until = Some(until);
            let batch = MetricsBatch::new(points, Arc::clone(&self.ledger));
            self.last_points.push(batch);
        }
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        let state = self.resources.get(&entry.resource_id);
        entry.held.is_some() || state.is_some_and(|state| state.resource.strong_count() > 0)
    }

    /// Forgets entries without series, of which so many have ended, and makes the index anew.
    fn forget(&mut self, ended: usize) {
        self.held = self.held.saturating_sub(ended);
        self.entries.retain(|entry| !entry.series.is_empty());
        self.resources
            .retain(|_, state| state.counts.iter().any(|(_, count)| *count > 0));
        self.index.clear();
        self.recent = Recent::default();
        let entries = &self.entries;
        for (at, entry) in entries.iter().enumerate() {
            self.index.insert_unique(entry.hash, at, |other| {
                entries.get(*other).map_or(0, |entry| entry.hash)
            });
        }
    }
}
