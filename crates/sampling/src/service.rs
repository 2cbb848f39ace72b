//! What is known of each service: its latencies and its limit, for a bounded number of services.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use spandrel_model::SpanKind;

use crate::latency::Latencies;
use crate::limit::Limit;

/// After this many seconds without a span a service is forgotten.
const FORGOTTEN_AFTER: f64 = 600.0;

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    /// How long it takes to answer, and how long it waits for answers.
    served: Latencies,
    called: Latencies,
    pub(crate) limit: Option<Limit>,
    quiet_seconds: f64,
    /// Which look-up of all was its last one.
    used: u64,
}

impl Service {
    fn new(per_second: f64) -> Self {
        Self {
            served: Latencies::default(),
            called: Latencies::default(),
            limit: (per_second > 0.0).then(|| Limit::new(per_second)),
            quiet_seconds: 0.0,
            used: 0,
        }
    }

    pub(crate) fn latencies(&mut self, kind: SpanKind) -> &mut Latencies {
        match kind {
            SpanKind::Server | SpanKind::Consumer => &mut self.served,
            SpanKind::Client | SpanKind::Producer | SpanKind::Internal => &mut self.called,
        }
    }
}

/// All services by name. Where there is no room for another one, the eighth that was asked for longest ago is forgotten.
#[derive(Debug)]
pub(crate) struct Services {
    by_name: HashMap<String, Service, RandomState>,
    max: usize,
    per_second: f64,
    uses: u64,
}

impl Services {
    pub(crate) fn new(max: usize, per_second: f64) -> Self {
        Self {
            by_name: HashMap::default(),
            max: max.max(1),
            per_second,
            uses: 0,
        }
    }

    pub(crate) fn get(&mut self, name: &str) -> &mut Service {
        self.uses += 1;
        if self.by_name.len() >= self.max && !self.by_name.contains_key(name) {
            self.evict();
        }
        let service = self
            .by_name
            .entry_ref(name)
            .or_insert_with(|| Service::new(self.per_second));
        service.quiet_seconds = 0.0;
        service.used = self.uses;
        service
    }

    fn evict(&mut self) {
        let mut uses: Vec<u64> = self.each().map(|service| service.used).collect();
        uses.sort_unstable();
        let last = uses.get(uses.len() / 8).copied().unwrap_or(self.uses);
        self.by_name.retain(|_, service| service.used > last);
    }

    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut Service> {
        self.by_name.values_mut()
    }

    pub(crate) fn halve_latencies(&mut self) {
        for service in self.each() {
            service.served.halve();
            service.called.halve();
        }
    }

    /// So much time is over.
    pub(crate) fn forget_quiet(&mut self, seconds: f64) {
        self.by_name.retain(|_, service| {
            service.quiet_seconds += seconds;
            service.quiet_seconds <= FORGOTTEN_AFTER
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_service_takes_the_place_of_the_one_that_was_quiet_for_longest() {
        let mut services = Services::new(2, 1.0);
        for name in ["a", "b", "a", "c"] {
            services.get(name);
        }
        let mut names: Vec<_> = services.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn quiet_services_are_forgotten_and_there_are_never_more_than_allowed() {
        let mut services = Services::new(20, 1.0);
        for number in 0..1000 {
            services.get(&number.to_string());
            assert!(services.len() <= 20);
        }
        for _ in 0..=FORGOTTEN_AFTER as u32 {
            services.get("999");
            services.forget_quiet(1.0);
        }
        assert_eq!(services.len(), 1);
    }
}
