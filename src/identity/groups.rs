//! Control groups by their ids: the groups of processes that were seen, and those that a search has found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spandrel_k8s_meta::cgroup::{Kind, Placement};

use super::cgroupfs::{Root, Search};
use super::readers::{Readers, Ticket};
use crate::recent::Recent;

/// Without threads that read, a search takes so long at a time, and then rests.
const SLICE: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(10);
/// What is not there when a search has ended is not searched for again before that.
const SEARCH_EVERY: Duration = Duration::from_secs(1);

/// The groups that are known, bounded.
#[derive(Debug)]
pub(super) struct Groups {
    /// Where they can be searched for.
    roots: Vec<Root>,
    known: Recent<u64, Arc<Placement>>,
    search: Option<Search>,
    /// The search that a thread makes now.
    asked: Option<Ticket>,
    /// How many searches have begun, which of them was the last to end, and which one is waited for.
    begun: u64,
    ended: u64,
    wanted: u64,
    /// How many groups have become known by themselves.
    named: u64,
    /// Nothing is searched for before that.
    rests_until: Option<Instant>,
}

/// Where a group is.
#[derive(Debug)]
pub(super) enum Found {
    /// There.
    There(Arc<Placement>),
    /// Nowhere that is known.
    Nowhere,
    /// It was not searched for to the end.
    NotYet,
}

impl Groups {
    pub(super) fn new(roots: Vec<Root>, most: usize) -> Self {
        Self {
            roots,
            known: Recent::new(most),
            search: None,
            asked: None,
            begun: 0,
            ended: 0,
            wanted: 0,
            named: 0,
            rests_until: None,
        }
    }

    pub(super) fn remember(&mut self, id: u64, placement: Arc<Placement>) {
        // In a pod the agent's own group is shown as the root.
        if placement.kind == Kind::Root && self.known(id).is_some() {
            return;
        }
        self.known.insert(id, placement);
    }

    /// The kernel has told where a group is. Whether it was not known before.
    pub(super) fn name(&mut self, id: u64, placement: Placement) -> bool {
        if self.known(id).is_some() {
            return false;
        }
        self.named += 1;
        self.remember(id, Arc::new(placement));
        true
    }

    /// The group of this id, which is searched for where it is not known. `wanted` is kept by whoever asks again: a search
    /// that had begun before it was asked for the first time may have passed where the group is now.
    pub(super) fn find(
        &mut self,
        id: u64,
        wanted: &mut Option<u64>,
        readers: Option<&mut Readers>,
    ) -> Found {
        if id == 0 {
            return Found::Nowhere;
        }
        let mut searched = true;
        if !self.roots.is_empty() && self.known.get(&id).is_none() {
            let wanted = *wanted.get_or_insert(self.begun + 1);
            self.wanted = self.wanted.max(wanted);
            if self.ended < wanted && self.is_due() {
                match readers {
                    Some(readers) => self.ask(readers),
                    None => self.search(),
                }
            }
            searched = self.ended >= wanted;
        }
        match self.known.get(&id) {
            // Beside version 1 the root of version 2 is where everything is of which version 1 knows more.
            Some(placement) if placement.kind == Kind::Root => Found::Nowhere,
            Some(placement) => Found::There(Arc::clone(placement)),
            None if searched => Found::Nowhere,
            None => Found::NotYet,
        }
    }

    /// Whether what was not found yet may be found now.
    pub(super) fn is_due(&self) -> bool {
        self.ended < self.wanted
            && self.asked.is_none()
            && self.rests_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Another one whenever groups may be known that were not.
    pub(super) fn version(&self) -> u64 {
        self.ended + self.named
    }

    /// Whether the search that something waits for has ended.
    pub(super) fn has_searched(&self, wanted: Option<u64>) -> bool {
        wanted.is_some_and(|wanted| self.ended >= wanted)
    }

    /// The group of this id, if it is known without a search.
    pub(super) fn known(&mut self, id: u64) -> Option<Arc<Placement>> {
        let placement = self.known.get(&id)?;
        (placement.kind != Kind::Root).then(|| Arc::clone(placement))
    }

    fn ask(&mut self, readers: &mut Readers) {
        self.asked = readers.ask_groups(&self.roots);
        if self.asked.is_some() {
            self.begun += 1;
        } else {
            self.rests_until = Some(Instant::now() + REST);
        }
    }

    /// A thread has searched.
    pub(super) fn told(&mut self, ticket: Ticket, found: Vec<(u64, Placement)>) {
        if self.asked != Some(ticket) {
            return;
        }
        self.asked = None;
        self.ended = self.begun;
        self.rests_until = Some(Instant::now() + SEARCH_EVERY);
        for (id, placement) in found {
            self.remember(id, Arc::new(placement));
        }
    }

    /// Searches on, or begins to.
    fn search(&mut self) {
        let begun = &mut self.begun;
        let search = self.search.get_or_insert_with(|| {
            *begun += 1;
            Search::new(&self.roots)
        });
        let found = search.look(Instant::now() + SLICE);
        let mut rest = REST;
        if search.has_ended() {
            self.search = None;
            self.ended = self.begun;
            rest = SEARCH_EVERY;
        }
        self.rests_until = Some(Instant::now() + rest);
        for (id, placement) in found {
            self.remember(id, Arc::new(placement));
        }
    }

    /// Rests as long as a test wants it.
    #[cfg(test)]
    pub(super) fn rest(&mut self, time: Duration) {
        self.rests_until = Some(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use spandrel_k8s_meta::cgroup::parse_path;

    use super::*;

    #[test]
    fn all_that_a_search_has_found_is_known_where_there_is_room_for_it() {
        let mut groups = Groups::new(Vec::new(), 100);
        let place = || parse_path("/system.slice/cron.service");
        for id in 1..=60 {
            groups.remember(id, Arc::new(place()));
        }
        groups.asked = Some(1);
        let found = (1001..=1060).map(|id| (id, place())).collect();
        groups.told(1, found);
        assert!((1001..=1060).all(|id| groups.known(id).is_some()));
    }

    #[test]
    fn a_full_table_forgets_the_groups_that_nobody_asked_for_for_the_longest_time() {
        let mut groups = Groups::new(Vec::new(), 100);
        let place = || Arc::new(parse_path("/system.slice/cron.service"));
        groups.remember(1, place());
        for id in 2..10_000 {
            groups.remember(id, place());
            assert!(groups.known(1).is_some(), "it was asked for before {id}");
            assert!(groups.known(id).is_some(), "{id} is new");
        }
        assert!(groups.known(2).is_none(), "the oldest");
    }

    #[test]
    fn what_the_kernel_tells_of_a_group_counts_where_it_is_shown_as_the_root() {
        let mut groups = Groups::new(Vec::new(), 100);
        let place = || parse_path("/system.slice/cron.service");
        groups.remember(7, Arc::new(parse_path("/")));
        assert!(groups.name(7, place()));
        groups.remember(7, Arc::new(parse_path("/")));
        assert!(!groups.name(7, place()), "known");
        assert_eq!(groups.known(7), Some(Arc::new(place())));
    }

    #[test]
    fn a_group_behind_the_back_of_a_search_is_found_by_the_next_one() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("system.slice")).unwrap();
        let roots = [Root {
            path: root.path().to_owned(),
            mark: 0,
        }];
        let mut groups = Groups::new(roots.to_vec(), 100);
        // One has begun, and has looked at the root already.
        let mut search = Search::new(&roots);
        assert_eq!(search.look(Instant::now()).len(), 2);
        assert!(!search.has_ended());
        (groups.search, groups.begun) = (Some(search), 1);
        let group = root.path().join("user.slice");
        fs::create_dir(&group).unwrap();
        let id = fs::metadata(&group).unwrap().ino();
        let mut wanted = None;
        let found = loop {
            groups.rest(Duration::ZERO);
            assert!(groups.begun <= 2);
            match groups.find(id, &mut wanted, None) {
                Found::NotYet => {}
                found => break found,
            }
        };
        assert!(matches!(found, Found::There(_)), "{found:?}");
        assert!(!groups.is_due(), "nobody waits");
    }
}
