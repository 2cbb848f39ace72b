//! What a scanner cannot do, and what is bounded.

use super::*;

const SERVICE: ServiceKey = ServiceKey {
    cgroup: 1,
    port: 80,
};

/// Ten seconds: what comes later is evidence of its own.
const WINDOW: u64 = 10_000_000_000;

fn ask(
    routes: &mut Routes,
    service: ServiceKey,
    path: &str,
    status: u16,
    time: u64,
) -> Option<String> {
    let evidence = Evidence {
        exists: shows_a_route(status),
        time: KernelTime(time),
    };
    let route = routes.route(service, &Text::from_static("GET"), path, evidence)?;
    assert_eq!(route.name, *format!("GET {}", route.template));
    Some(route.template.to_string())
}

fn template(routes: &mut Routes, service: ServiceKey, path: &str) -> Option<String> {
    ask(routes, service, path, 200, 0)
}

/// Words that a scanner tries.
fn words(count: usize) -> impl Iterator<Item = String> {
    let letter = |digit: usize| char::from(b'a' + (digit % 26) as u8);
    (0..count).map(move |n| format!("/w{}{}{}", letter(n / 676), letter(n / 26), letter(n)))
}

fn route(path: &str) -> Option<String> {
    template(&mut Routes::new(Settings::default()), SERVICE, path)
}

#[test]
fn identifiers_become_placeholders_and_names_stay() {
    for (path, expected) in [
        ("/", "/"),
        ("/users/42/orders", "/users/{id}/orders"),
        (
            "/v1/items/3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "/v1/items/{id}",
        ),
        ("/commits/da39a3ee5e6b4b0d", "/commits/{id}"),
        ("/days/2026-11-23/", "/days/{id}/"),
        ("/a%20b/x", "/{id}/x"),
        ("/static/app.js", "/static/app.js"),
        ("/login/2fa", "/login/2fa"),
        ("/sign-in/_/v1b", "/sign-in/_/v1b"),
        ("/release1/x1234/deadbeef", "/release1/x1234/deadbeef"),
        ("/x.1234567/a1.b2.c3", "/x.1234567/a1.b2.c3"),
        (
            "/main.20261123.bundle.js/notification-settings",
            "/main.20261123.bundle.js/notification-settings",
        ),
        ("/jobs/1a2b3c4d", "/jobs/{id}"),
        ("/pods/zebra-1234-5678-x", "/pods/{id}"),
    ] {
        assert_eq!(route(path).as_deref(), Some(expected));
    }
    assert_eq!(route("*"), None);
    let name = format!("/{}", "n".repeat(40));
    assert_eq!(route(&name).as_deref(), Some(&*name));
    assert_eq!(route(&format!("{name}n")).as_deref(), Some("/{id}"));
}

#[test]
fn what_is_deeper_than_any_route_is_told_in_short_and_what_is_longer_is_not() {
    let deepest = "/a".repeat(MAX_SEGMENTS);
    assert_eq!(route(&deepest).as_deref(), Some(&*deepest));
    let deeper = route(&format!("{deepest}/b/c"));
    assert_eq!(deeper, Some(format!("{deepest}/*")));
    let longest = format!("/{}", "1".repeat(MAX_PATH - 1));
    assert_eq!(route(&longest).as_deref(), Some("/{id}"));
    assert_eq!(route(&format!("{longest}1")), None);
}

#[test]
fn an_answer_that_only_a_handler_gives_shows_a_route() {
    for status in [101, 200, 299, 304, 409, 412, 422, 428, 500, 503, 599] {
        assert!(shows_a_route(status), "{status}");
    }
    for status in [100, 199, 301, 400, 401, 403, 404, 405, 410, 429, 501, 600] {
        assert!(!shows_a_route(status), "{status}");
    }
}

#[test]
fn a_place_with_too_many_values_becomes_variable() {
    let mut routes = Routes::new(Settings::default());
    let name = |number: usize| {
        let letter = |digit: usize| char::from(b'a' + digit as u8);
        format!("/u/{}{}", letter(number / 26), letter(number % 26))
    };
    let made: std::collections::BTreeSet<_> = (0..600)
        .map(|number| template(&mut routes, SERVICE, &name(number)).unwrap())
        .collect();
    assert_eq!(made.len(), Settings::default().max_values + 1);
    let variable = template(&mut routes, SERVICE, "/u/aa");
    assert_eq!(variable.as_deref(), Some("/u/{id}"));
}

#[test]
fn what_is_learned_is_bounded_however_wild_the_paths() {
    let settings = Settings {
        max_nodes: 50,
        max_services: 2,
        ..Settings::default()
    };
    let mut routes = Routes::new(settings);
    for service in 0..10 {
        for first in "abcdefghijkl".chars() {
            for second in "abcdefghijkl".chars() {
                let key = ServiceKey {
                    cgroup: service,
                    port: 1,
                };
                template(&mut routes, key, &format!("/{first}/{second}"));
            }
        }
    }
    assert_eq!(routes.services.len(), 2);
    for tree in routes.services.values() {
        let (nodes, candidates) = tree.size();
        assert!(nodes <= 50 && candidates <= 50, "{nodes}, {candidates}");
    }
}

#[test]
fn what_is_kept_of_names_is_bounded_and_taken_from_who_keeps_most() {
    let mut routes = Routes::new(Settings::default());
    let other = ServiceKey {
        cgroup: 2,
        port: 80,
    };
    template(&mut routes, other, "/a").unwrap();
    let kept = routes.kept;
    let long = "/segment-that-is-long".repeat(12);
    for path in words(30_000).map(|word| format!("{long}{}", word.repeat(30))) {
        assert!(template(&mut routes, SERVICE, &path).is_some());
        assert!(routes.kept <= MAX_KEPT);
    }
    for round in 0..2 {
        for method in (0..3000).map(|number| Text::from(format!("M{number}"))) {
            let evidence = Evidence {
                exists: true,
                time: KernelTime(round),
            };
            let found = routes.route(SERVICE, &method, &long, evidence).unwrap();
            assert_eq!(found.name, *format!("{method} {}", found.template));
            assert!(routes.kept <= MAX_KEPT);
        }
    }
    let sum: usize = routes.services.values().map(|tree| tree.kept).sum();
    assert_eq!(routes.kept, sum);
    assert_eq!(routes.services[&other].kept, kept);
}

#[test]
fn a_scanner_that_is_refused_or_sent_elsewhere_teaches_nothing() {
    let mut routes = Routes::new(Settings::default());
    template(&mut routes, SERVICE, "/orders/17").unwrap();
    template(&mut routes, SERVICE, "/health").unwrap();
    for status in [301, 302, 303, 307, 401, 403, 429] {
        for word in words(40) {
            assert_eq!(ask(&mut routes, SERVICE, &word, status, 0), None);
        }
    }
    // What is known has its route, whatever the answer.
    for status in [200, 302, 401, 500] {
        let mut ask = |path| ask(&mut routes, SERVICE, path, status, 0);
        assert_eq!(ask("/orders/18").as_deref(), Some("/orders/{id}"));
        assert_eq!(ask("/health").as_deref(), Some("/health"));
    }
    assert_eq!(
        ask(&mut routes, SERVICE, "/new", 503, 0).as_deref(),
        Some("/new")
    );
}

#[test]
fn names_that_were_seen_often_or_over_time_stay_when_a_scanner_gets_200_for_everything() {
    let mut routes = Routes::new(Settings::default());
    for number in 0..32 {
        template(&mut routes, SERVICE, "/orders").unwrap();
        if number % 8 == 0 {
            ask(&mut routes, SERVICE, "/health", 200, number / 8 * WINDOW).unwrap();
        }
    }
    template(&mut routes, SERVICE, "/once").unwrap();
    for word in words(1000) {
        assert!(template(&mut routes, SERVICE, &word).is_some());
    }
    let mut route = |path| template(&mut routes, SERVICE, path).unwrap();
    assert_eq!(route("/orders"), "/orders");
    assert_eq!(route("/health"), "/health");
    assert_eq!(route("/once"), "/{id}");
    assert_eq!(route("/waaa"), "/{id}");
}

#[test]
fn a_route_that_a_scanner_came_before_becomes_a_name_by_use_even_while_the_scanner_goes_on() {
    let mut routes = Routes::new(Settings::default());
    for word in words(40) {
        template(&mut routes, SERVICE, &word).unwrap();
    }
    assert_eq!(
        template(&mut routes, SERVICE, "/orders").as_deref(),
        Some("/{id}")
    );
    // One request in ten is not the scanner's.
    let mut scanner = words(17_000);
    for round in 0..40 {
        let time = round * WINDOW / 4;
        for word in scanner.by_ref().take(10 * 40) {
            ask(&mut routes, SERVICE, &word, 200, time);
        }
        for _ in 0..40 {
            ask(&mut routes, SERVICE, "/orders/17", 200, time);
        }
    }
    assert_eq!(
        template(&mut routes, SERVICE, "/orders/18").as_deref(),
        Some("/orders/{id}")
    );
    assert_eq!(
        template(&mut routes, SERVICE, "/waaa").as_deref(),
        Some("/{id}")
    );
}

#[test]
fn a_scanner_with_deep_paths_cannot_use_up_what_may_be_learned() {
    let mut routes = Routes::new(Settings {
        max_nodes: 256,
        ..Settings::default()
    });
    for round in 0..5 {
        ask(&mut routes, SERVICE, "/api/orders/17", 200, round * WINDOW).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for (first, second) in words(3000).zip(words(6000).skip(3000)) {
        let path = format!("{first}{second}/x{second}");
        seen.extend(ask(&mut routes, SERVICE, &path, 200, 6 * WINDOW));
    }
    // In all the time, not only at a time.
    assert!(seen.len() < 600, "{} routes", seen.len());
    let mut route = |path, time| ask(&mut routes, SERVICE, path, 200, time);
    assert_eq!(
        route("/api/orders/18", 7 * WINDOW).as_deref(),
        Some("/api/orders/{id}")
    );
    for round in 8..28 {
        route("/invoices", round * WINDOW);
    }
    assert_eq!(
        route("/invoices", 28 * WINDOW).as_deref(),
        Some("/invoices")
    );
}

#[test]
fn what_is_learned_in_all_the_time_of_a_service_is_bounded_as_well() {
    // Names that make room never come back as they were.
    let mut routes = Routes::new(Settings {
        max_nodes: 64,
        ..Settings::default()
    });
    let mut seen = std::collections::BTreeSet::new();
    for word in words(3000) {
        seen.extend(template(&mut routes, SERVICE, &format!("{word}/x{word}/y")));
    }
    assert!(seen.len() < 300, "{} routes", seen.len());

    // A user is seen often for a while, then the next one.
    let mut routes = Routes::new(Settings::default());
    let mut seen = std::collections::BTreeSet::new();
    for (number, word) in words(200).enumerate() {
        for turn in 0..20 {
            let time = (number as u64 * 20 + turn) * WINDOW;
            seen.extend(ask(&mut routes, SERVICE, &format!("/u{word}"), 200, time));
        }
    }
    assert!(seen.len() <= 2 * 32 + 1, "{} routes", seen.len());
}

#[test]
fn of_more_services_than_allowed_the_one_unused_for_the_longest_is_forgotten() {
    let mut routes = Routes::new(Settings {
        max_services: 3,
        ..Settings::default()
    });
    let service = |cgroup| ServiceKey { cgroup, port: 80 };
    for cgroup in 1..=3 {
        template(&mut routes, service(cgroup), "/a").unwrap();
    }
    template(&mut routes, service(1), "/a").unwrap();
    for cgroup in 4..=5 {
        assert_eq!(
            template(&mut routes, service(cgroup), "/a").as_deref(),
            Some("/a")
        );
    }
    let mut left: Vec<_> = routes.services.keys().map(|key| key.cgroup).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 4, 5]);
    let sum: usize = routes.services.values().map(|tree| tree.kept).sum();
    assert_eq!(routes.kept, sum);
}

#[test]
fn configured_templates_come_first() {
    let settings = Settings {
        templates: vec!["/shop/{name}/cart".to_owned(), "/files/*".to_owned()],
        ..Settings::default()
    };
    let mut routes = Routes::new(settings);
    let mut route = |path| template(&mut routes, SERVICE, path).unwrap();
    assert_eq!(route("/shop/anna/cart"), "/shop/{name}/cart");
    assert_eq!(route("/files/a/b"), "/files/*");
    assert_eq!(route("/shop/anna"), "/shop/anna");
    assert_eq!(route("/shop/anna/card"), "/shop/anna/card");
    assert_eq!(route("/shop//cart"), "/shop//cart");
    assert_eq!(route("/shops/anna/cart"), "/shops/anna/cart");
}
