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
}

impl Service {
    fn new(per_second: f64) -> Self {
        Self {
            served: Latencies::default(),
            called: Latencies::default(),
            limit: (per_second > 0.0).then(|| Limit::new(per_second)),
            quiet_seconds: 0.0,
        }
    }

    pub(crate) fn latencies(&mut self, kind: SpanKind) -> &mut Latencies {
        match kind {
            SpanKind::Server | SpanKind::Consumer => &mut self.served,
            SpanKind::Client | SpanKind::Producer | SpanKind::Internal => &mut self.called,
        }
    }
}

/// All services by name. Those for which there is no room share one place.
#[derive(Debug)]
pub(crate) struct Services {
    by_name: HashMap<String, Service, RandomState>,
    others: Service,
    max: usize,
    per_second: f64,
}

impl Services {
    pub(crate) fn new(max: usize, per_second: f64) -> Self {
        Self {
            by_name: HashMap::default(),
            others: Service::new(per_second),
            max,
            per_second,
        }
    }

    pub(crate) fn get(&mut self, name: &str) -> &mut Service {
        if !self.by_name.contains_key(name) && self.by_name.len() < self.max {
            let service = Service::new(self.per_second);
            self.by_name.insert(name.to_owned(), service);
        }
        let service = self.by_name.get_mut(name).unwrap_or(&mut self.others);
        service.quiet_seconds = 0.0;
        service
    }

    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut Service> {
        self.by_name.values_mut().chain([&mut self.others])
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
    fn services_beyond_the_bound_share_one_place_and_quiet_ones_make_room() {
        let mut services = Services::new(2, 1.0);
        for name in ["a", "b", "c", "d", "a"] {
            services.get(name);
        }
        assert_eq!(services.len(), 2);
        for _ in 0..=FORGOTTEN_AFTER as u32 {
            services.get("b");
            services.forget_quiet(1.0);
        }
        assert_eq!(services.len(), 1);
        services.get("c");
        assert_eq!(services.len(), 2);
    }
}
