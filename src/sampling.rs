//! From the configuration to the settings of the sampler.

use spandrel_config::{Config, settings};
use spandrel_sampling::{KeepSlow, ParentBased, RateLimit, Sampler, SamplingSettings};

/// What decides on the spans that are exported.
pub fn settings(config: &Config) -> SamplingSettings {
    let rules = &config.sampling;
    SamplingSettings {
        sampler: sampler(&config.sampler),
        keep_errors: rules.keep_errors,
        keep_slow: rules.keep_slow.enabled.then_some(KeepSlow {
            quantile: rules.keep_slow.quantile,
            half_life: rules.keep_slow.half_life,
        }),
        rate_limit: RateLimit {
            spans_per_second: rules.rate_limit.spans_per_second,
            spans_per_second_per_service: rules.rate_limit.spans_per_second_per_service,
        },
        max_services: rules.max_services,
    }
}

fn sampler(configured: &settings::Sampler) -> Sampler {
    match configured {
        settings::Sampler::AlwaysOn => Sampler::AlwaysOn,
        settings::Sampler::AlwaysOff => Sampler::AlwaysOff,
        settings::Sampler::TraceIdRatioBased(ratio) => Sampler::Ratio(*ratio),
        settings::Sampler::ParentBased(rules) => Sampler::ParentBased(Box::new(ParentBased {
            root: sampler(&rules.root),
            remote_parent_sampled: sampler(&rules.remote_parent_sampled),
            remote_parent_not_sampled: sampler(&rules.remote_parent_not_sampled),
            local_parent_sampled: sampler(&rules.local_parent_sampled),
            local_parent_not_sampled: sampler(&rules.local_parent_not_sampled),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_sampler() {
        assert_eq!(settings(&Config::default()), SamplingSettings::default());
    }
}
