//! Which spans are sent: the standard sampler, the rules of our own, and the variables.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use std::time::Duration;

use spandrel_config::settings::{KeepSlow, ParentBased, RateLimit, Sampler, Sampling};
use spandrel_config::{Config, from_env, load_str, print};

const FILE: &str =
    "file_format: \"1.1\"\ntracer_provider:\n  processors: [{batch: {exporter: {console: }}}]\n";

fn load(text: &str) -> (Config, Vec<String>) {
    let loaded =
        load_str("f.yaml", text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    (loaded.config, warnings)
}

fn sampler(yaml: &str) -> (Sampler, Vec<String>) {
    let (config, warnings) = load(&format!("{FILE}  sampler: {yaml}\n"));
    (config.sampler, warnings)
}

fn ours(block: &str) -> String {
    format!("{FILE}distribution:\n  spandrel:\n    version: \"1.0\"\n    sampling: {block}\n")
}

fn parent_based(root: Sampler) -> Sampler {
    Sampler::ParentBased(Box::new(ParentBased {
        root,
        ..ParentBased::default()
    }))
}

#[test]
fn each_sampler_of_the_schema_arrives() {
    for (yaml, expected) in [
        ("{always_on: }", Sampler::AlwaysOn),
        ("{always_off: {}}", Sampler::AlwaysOff),
        (
            "{trace_id_ratio_based: {ratio: 0.25}}",
            Sampler::TraceIdRatioBased(0.25),
        ),
        ("{trace_id_ratio_based: }", Sampler::TraceIdRatioBased(1.0)),
        (
            "{probability/development: {ratio: 1}}",
            Sampler::TraceIdRatioBased(1.0),
        ),
        (
            "{always_record: {root: {always_off: }}}",
            Sampler::AlwaysOff,
        ),
        ("{parent_based: }", parent_based(Sampler::AlwaysOn)),
        (
            "{parent_based: {root: {trace_id_ratio_based: {ratio: 0.5}}}}",
            parent_based(Sampler::TraceIdRatioBased(0.5)),
        ),
    ] {
        assert_eq!(sampler(yaml), (expected, vec![]), "{yaml}");
    }
    let (Sampler::ParentBased(rules), _) = sampler(
        "{parent_based: {remote_parent_sampled: {always_off: }, remote_parent_not_sampled: {always_on: }, \
         local_parent_sampled: {trace_id_ratio_based: {ratio: 0.1}}, local_parent_not_sampled: {always_on: }}}",
    ) else {
        panic!()
    };
    let expected = ParentBased {
        root: Sampler::AlwaysOn,
        remote_parent_sampled: Sampler::AlwaysOff,
        remote_parent_not_sampled: Sampler::AlwaysOn,
        local_parent_sampled: Sampler::TraceIdRatioBased(0.1),
        local_parent_not_sampled: Sampler::AlwaysOn,
    };
    assert_eq!(*rules, expected);
}

#[test]
fn samplers_that_are_not_supported_are_named_with_what_happens_instead() {
    for (yaml, name, expected) in [
        (
            "{jaeger_remote/development: {endpoint: x, initial_sampler: {always_off: }}}",
            "`jaeger_remote/development`",
            Sampler::AlwaysOff,
        ),
        (
            "{composite/development: {always_off: }}",
            "`composite/development`",
            Sampler::AlwaysOn,
        ),
        ("{my_sampler: }", "`my_sampler`", Sampler::AlwaysOn),
    ] {
        let (sampler, warnings) = sampler(yaml);
        assert_eq!(sampler, expected, "{yaml}");
        assert!(warnings[0].contains(name), "{warnings:?}");
        assert_eq!(warnings.len(), 1);
    }
}

#[test]
fn the_rules_of_our_own_arrive() {
    let block = "{keep_errors: true, keep_slow: {enabled: true, quantile: 0.95, half_life: 1m}, \
                 rate_limit: {spans_per_second: 500, spans_per_second_per_service: 0.5}, max_services: 7}";
    let (config, warnings) = load(&ours(block));
    assert_eq!(warnings, Vec::<String>::new());
    let expected = Sampling {
        keep_errors: true,
        keep_slow: KeepSlow {
            enabled: true,
            quantile: 0.95,
            half_life: Duration::from_secs(60),
        },
        rate_limit: RateLimit {
            spans_per_second: 500.0,
            spans_per_second_per_service: 0.5,
        },
        max_services: 7,
    };
    assert_eq!(config.sampling, expected);
}

#[test]
fn bad_values_give_their_place_and_what_was_expected() {
    for (block, column, expected) in [
        (
            "{keep_slow: {quantile: 99}}",
            38,
            "a number from 0.5 to 0.9999",
        ),
        (
            "{keep_slow: {half_life: 0s}}",
            39,
            "a longer time, such as \"300s\"",
        ),
        ("{keep_slow: {half_life: 300}}", 39, "5s"),
        (
            "{rate_limit: {spans_per_second: -1}}",
            47,
            "a number from 0 to 1000000000",
        ),
        ("{keep_errors: yes please}", 29, "true or false"),
        ("{max_services: 0}", 30, "an integer from 1 to 100000"),
    ] {
        let problems = load_str("f.yaml", &ours(block), &|_| None).expect_err(block);
        let found = problems.errors().next().unwrap();
        let at = found.position.unwrap();
        assert_eq!((at.line, at.column), (7, column), "{problems}");
        assert!(
            found.expected.as_deref().unwrap().contains(expected),
            "{problems}"
        );
    }
    let text = format!("{FILE}  sampler: {{trace_id_ratio_based: {{ratio: 10}}}}\n");
    let problems = load_str("f.yaml", &text, &|_| None).expect_err("10 is no ratio");
    let found = problems.errors().next().unwrap();
    assert_eq!(
        found.path,
        "tracer_provider.sampler.trace_id_ratio_based.ratio"
    );
    let text = ours("{keep_eror: true}");
    let problems = load_str("f.yaml", &text, &|_| None).expect_err("unknown key");
    assert!(
        problems.to_string().contains("did you mean `keep_errors`?"),
        "{problems}"
    );
}

#[test]
fn a_service_that_may_send_more_than_all_together_is_warned_of() {
    let (_, warnings) = load(&ours(
        "{rate_limit: {spans_per_second: 10, spans_per_second_per_service: 20}}",
    ));
    assert!(warnings[0].contains("one service may send 20 spans a second, all together 10"));
}

#[test]
fn what_is_printed_means_the_same_when_it_is_read_again() {
    let block = "{keep_errors: true, rate_limit: {spans_per_second: 12.5}}";
    let text = ours(block).replace(
        "]\ndistribution",
        "]\n  sampler: {parent_based: {root: {trace_id_ratio_based: {ratio: 0.1}}}}\ndistribution",
    );
    let (config, _) = load(&text);
    assert_eq!(
        config.sampler,
        parent_based(Sampler::TraceIdRatioBased(0.1))
    );
    assert_eq!(load(&print(&config)), (config, vec![]));
}

#[test]
fn the_variables_of_the_specification_choose_a_sampler() {
    let read = |sampler: &str, argument: &str| {
        let loaded = from_env(&|name| match name {
            "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => Some(argument.to_owned()),
            _ => None,
        });
        (loaded.config.sampler, loaded.warnings.len())
    };
    let half = Sampler::TraceIdRatioBased(0.5);
    for (name, argument, expected) in [
        ("always_on", "", (Sampler::AlwaysOn, 0)),
        ("always_off", "", (Sampler::AlwaysOff, 0)),
        ("traceidratio", "0.5", (half.clone(), 0)),
        ("traceidratio", "", (Sampler::TraceIdRatioBased(1.0), 0)),
        ("traceidratio", "7", (Sampler::TraceIdRatioBased(1.0), 1)),
        (
            "parentbased_always_on",
            "",
            (parent_based(Sampler::AlwaysOn), 0),
        ),
        (
            "parentbased_always_off",
            "",
            (parent_based(Sampler::AlwaysOff), 0),
        ),
        ("parentbased_traceidratio", "0.5", (parent_based(half), 0)),
        ("xray", "", (Sampler::AlwaysOn, 1)),
    ] {
        assert_eq!(read(name, argument), expected, "{name} {argument}");
    }
}
