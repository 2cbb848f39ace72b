//! `tracer_provider.sampler` and `distribution.spandrel.sampling`: read and written.
use std::time::Duration;

use serde_json::{Value, json};

use crate::diagnostic::Findings;
use crate::extract::{boolean, count, duration, number, set};
use crate::node::{Node, stable};
use crate::settings::{ParentBased, Sampler, Sampling};
use crate::units::write_duration;

/// What a sampler means. Of one that is not known all spans are kept, and its name was in a warning already.
pub(crate) fn sampler(node: Option<&Node>) -> Option<Sampler> {
    let entry = node?.entries().first()?;
    let settings = &entry.value;
    Some(match stable(&entry.key) {
        "always_off" => Sampler::AlwaysOff,
        // What is recorded and not sent is what metrics are made of: the same as not to be sent.
        "always_record" => sampler(settings.get("root"))?,
        "trace_id_ratio_based" | "probability" => {
            Sampler::TraceIdRatioBased(number(settings.get("ratio")).unwrap_or(1.0))
        }
        "parent_based" => {
            let mut rules = ParentBased::default();
            let ParentBased {
                root,
                remote_parent_sampled,
                remote_parent_not_sampled,
                local_parent_sampled,
                local_parent_not_sampled,
            } = &mut rules;
            for (key, target) in [
                ("root", root),
                ("remote_parent_sampled", remote_parent_sampled),
                ("remote_parent_not_sampled", remote_parent_not_sampled),
                ("local_parent_sampled", local_parent_sampled),
                ("local_parent_not_sampled", local_parent_not_sampled),
            ] {
                set(target, sampler(settings.get(key)));
            }
            Sampler::ParentBased(Box::new(rules))
        }
        "jaeger_remote" => sampler(settings.get("initial_sampler"))?,
        _ => Sampler::AlwaysOn,
    })
}

/// A sampler as the file has it.
pub(crate) fn print(sampler: &Sampler) -> Value {
    match sampler {
        Sampler::AlwaysOn => json!({"always_on": null}),
        Sampler::AlwaysOff => json!({"always_off": null}),
        Sampler::TraceIdRatioBased(ratio) => json!({"trace_id_ratio_based": {"ratio": ratio}}),
        Sampler::ParentBased(rules) => json!({"parent_based": {
            "root": print(&rules.root),
            "remote_parent_sampled": print(&rules.remote_parent_sampled),
            "remote_parent_not_sampled": print(&rules.remote_parent_not_sampled),
            "local_parent_sampled": print(&rules.local_parent_sampled),
            "local_parent_not_sampled": print(&rules.local_parent_not_sampled),
        }}),
    }
}

pub(crate) fn sampling(node: &Node, sampling: &mut Sampling, to: &mut Findings) {
    set(&mut sampling.keep_errors, boolean(node.get("keep_errors")));
    if let Some(slow) = node.get("keep_slow") {
        let rule = &mut sampling.keep_slow;
        set(&mut rule.enabled, boolean(slow.get("enabled")));
        set(&mut rule.quantile, number(slow.get("quantile")));
        set(&mut rule.half_life, duration(slow.get("half_life")));
        let short = rule.half_life < Duration::from_secs(1);
        if let Some(half_life) = slow.get("half_life").filter(|_| short) {
            let found = to
                .error("a half-life below a second leaves nothing to compare with")
                .at(half_life.at);
            let found = found.path("distribution.spandrel.sampling.keep_slow.half_life");
            to.push(found.expected("a longer time, such as \"300s\""));
        }
    }
    if let Some(limit) = node.get("rate_limit") {
        let limits = &mut sampling.rate_limit;
        set(
            &mut limits.spans_per_second,
            number(limit.get("spans_per_second")),
        );
        set(
            &mut limits.spans_per_second_per_service,
            number(limit.get("spans_per_second_per_service")),
        );
        let (all, each) = (limits.spans_per_second, limits.spans_per_second_per_service);
        if all > 0.0 && each > all {
            let message = format!("one service may send {each} spans a second, all together {all}");
            let found = to.warning(message).at(limit.at);
            let found = found.path("distribution.spandrel.sampling.rate_limit");
            to.push(found.expected("spans_per_second_per_service of at most spans_per_second"));
        }
    }
    set(&mut sampling.max_services, count(node.get("max_services")));
}

/// The block as the file has it.
pub(crate) fn print_block(sampling: &Sampling) -> Value {
    json!({
        "keep_errors": sampling.keep_errors,
        "keep_slow": {
            "enabled": sampling.keep_slow.enabled,
            "quantile": sampling.keep_slow.quantile,
            "half_life": write_duration(sampling.keep_slow.half_life),
        },
        "rate_limit": {
            "spans_per_second": sampling.rate_limit.spans_per_second,
            "spans_per_second_per_service": sampling.rate_limit.spans_per_second_per_service,
        },
        "max_services": sampling.max_services,
    })
}
