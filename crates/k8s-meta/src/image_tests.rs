//! References as manifests and container statuses have them.

use super::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parts(text: &str) -> Option<(String, Option<String>, Option<String>)> {
    Reference::parse(text).map(|it| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        (it.name.to_owned(), owned(it.tag), owned(it.digest))
    })
}

#[test]
fn a_reference_is_taken_apart_and_nothing_is_added() {
    for (text, name, tag, digest) in [
        ("nginx", "nginx", None, None),
        ("nginx:1.25-alpine", "nginx", Some("1.25-alpine"), None),
        ("library/nginx:1", "library/nginx", Some("1"), None),
        ("localhost:5000/shop", "localhost:5000/shop", None, None),
        (
            "localhost:5000/shop:v2",
            "localhost:5000/shop",
            Some("v2"),
            None,
        ),
        (
            "[fd00::1]:5000/team/shop:v2",
            "[fd00::1]:5000/team/shop",
            Some("v2"),
            None,
        ),
        (
            "registry.example.com/a__b/c-d.e:X_1",
            "registry.example.com/a__b/c-d.e",
            Some("X_1"),
            None,
        ),
        (
            "Registry.Example.com/shop",
            "Registry.Example.com/shop",
            None,
            None,
        ),
    ] {
        let expected = (
            name.to_owned(),
            tag.map(str::to_owned),
            digest.map(str::to_owned),
        );
        assert_eq!(parts(text), Some(expected), "{text}");
    }
}

#[test]
fn tag_and_digest_may_both_be_there() {
    let text = format!("localhost:5000/shop:v2@{SHA}");
    let it = Reference::parse(&text).unwrap();
    assert_eq!(
        (it.name, it.tag, it.digest),
        ("localhost:5000/shop", Some("v2"), Some(SHA))
    );
    assert_eq!(it.version().as_deref(), Some(&*format!("v2@{SHA}")));
    let text = format!("shop@{SHA}");
    let it = Reference::parse(&text).unwrap();
    assert_eq!((it.tag, it.digest), (None, Some(SHA)));
    assert_eq!(it.version().as_deref(), Some(SHA));
    assert_eq!(Reference::parse("shop").unwrap().version(), None);
}

#[test]
fn what_the_grammar_does_not_allow_is_nothing() {
    let long = "a".repeat(256);
    for text in [
        "",
        ":v1",
        "nginx:",
        "nginx@",
        "nginx@sha256:short",
        "Nginx",
        "a//b",
        "/nginx",
        "nginx/",
        "a..b/c/d..e",
        "a___b",
        "host:port/shop",
        "[fd00::x]/shop",
        "nginx:v1:v2",
        "nginx:-v1",
        "é",
        SHA,
        &long,
    ] {
        assert_eq!(parts(text), None, "{text}");
    }
}

#[test]
fn a_repo_digest_is_what_the_runtime_says_or_nothing() {
    let docker = format!("docker-pullable://nginx@{SHA}");
    let containerd = format!("docker.io/library/nginx@{SHA}");
    assert_eq!(repo_digest(&docker), Some(&*format!("nginx@{SHA}")));
    assert_eq!(repo_digest(&containerd), Some(&*containerd));
    for id in ["", SHA, &format!("docker://{SHA}"), "nginx:1"] {
        assert_eq!(repo_digest(id), None, "{id}");
    }
}

#[test]
fn what_runs_is_what_was_asked_for_only_where_the_status_agrees() {
    let by_digest = format!("shop@{SHA}");
    let in_full = format!("docker.io/library/shop@{SHA}");
    let other = format!("shop@{}", SHA.replace('e', "d"));
    for (asked, image, image_id, runs) in [
        ("shop:2", "docker.io/library/shop:2", "", "shop:2"),
        ("shop", "docker.io/library/shop:latest", "", "shop"),
        (
            "shop:3",
            "docker.io/library/shop:2",
            "",
            "docker.io/library/shop:2",
        ),
        (
            "store:2",
            "docker.io/library/shop:2",
            "",
            "docker.io/library/shop:2",
        ),
        (&by_digest, SHA, &in_full, &by_digest),
        (&other, SHA, &in_full, &in_full),
        ("shop:2", SHA, &in_full, &in_full),
        ("shop:2", SHA, SHA, ""),
        ("shop:2", "", "", ""),
    ] {
        assert_eq!(
            running(asked, image, image_id),
            runs,
            "{asked} {image} {image_id}"
        );
    }
}
